"""Attention itself, as something to differentiate; alone, and with the entropy of its rows."""

from __future__ import annotations

from torch import Tensor

from sightline.backends.derivatives.order import Base, Order, Outputs, Part, Slot
from sightline.backends.derivatives.rows import Rows, of_pairs, rows_of
from sightline.backends.dropout import kept
from sightline.backends.grouped import grouped_product


def _attend(part: Part) -> Outputs:
    """(context, lse)."""
    rows = rows_of(part.problems[0], part.careful)
    return _context(part, rows), rows.lse


def _attend_and_look(part: Part) -> Outputs:
    """(context, lse, entropy); the entropy is that of the weights without dropout."""
    rows = rows_of(part.problems[0], part.careful)
    return _context(part, rows), rows.lse, rows.entropy


def _context(part: Part, rows: Rows) -> Tensor:
    (problem,), (whole,) = part.problems, part.whole
    assert problem.value is not None
    applied = rows.exponentials
    if whole.dropout > 0:
        applied = applied * kept(whole, part.place)
    if part.careful:
        context = (applied[..., None] * of_pairs(rows.seen, problem.value, problem.group)).sum(3)
    else:
        context = grouped_product(applied, problem.value)
    return context / rows.total[..., None]


_CONTEXT, _LSE, _ENTROPY = Slot("context", "BHNE"), Slot("lse", "BHN"), Slot("entropy", "BHN")
#: Context and lse, functions of the tensors of a problem.
ATTENTION = Order.of(Base(_attend, (_CONTEXT, _LSE), dtypes=lambda query, lse: (query, lse)))
#: The same with the rows' entropy.
ATTENTION_AND_ENTROPY = Order.of(
    Base(_attend_and_look, (_CONTEXT, _LSE, _ENTROPY), dtypes=lambda query, lse: (query, lse, lse))
)

"""Attention itself, as something to differentiate."""

from __future__ import annotations

from sightline.backends.derivatives.order import Base, Order, Outputs, Part, Slot
from sightline.backends.derivatives.rows import of_pairs, rows_of
from sightline.backends.dropout import kept
from sightline.backends.grouped import grouped_product


def _attend(part: Part) -> Outputs:
    """(context, lse)."""
    (problem,), (whole,) = part.problems, part.whole
    assert problem.value is not None
    rows = rows_of(problem, part.careful)
    applied = rows.exponentials
    if whole.dropout > 0:
        applied = applied * kept(whole, part.place)
    if part.careful:
        context = (applied[..., None] * of_pairs(rows.seen, problem.value, problem.group)).sum(3)
    else:
        context = grouped_product(applied, problem.value)
    return context / rows.total[..., None], rows.lse


#: Context and lse, functions of the tensors of a problem.
ATTENTION = Order.of(
    Base(_attend, (Slot("context", "BHNE"), Slot("lse", "BHN")), dtypes=lambda query, lse: (query, lse))
)

"""How far two matrices are apart, row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, cast, get_args

from torch import Tensor

from sightline.backends.derivatives import Base, Order, Part, Slot
from sightline.backends.derivatives.order import Outputs
from sightline.backends.derivatives.rows import Rows, rows_of
from sightline.common.check import check_device, choice, kind
from sightline.matrix.core import MatrixCore
from sightline.matrix.followed import computed

Kind = Literal["kl", "reverse_kl", "js", "l2"]


class Divergences(MatrixCore):
    """Compares matrices."""

    def divergence(self, other: MatrixCore, kind: str = "kl") -> Tensor:
        """How far the rows of another matrix are from this one's, in nats: [B,H,N].

        With weights p of this matrix and q of the other, over the keys that either sees: "kl" Σ p ln(p / q);
        "reverse_kl" Σ q ln(q / p); "js" the mean of both against (p + q) / 2; "l2" Σ (p - q)².
        Where p looks and q may not, "kl" is inf. Gradients of any order reach both (``detach=False``), by
        recomputation: memory is linear in the sequence. The widths of queries may differ.

        Args:
            other: a matrix of the same shape, on the same device.
            kind: "kl", "reverse_kl", "js" or "l2".

        Raises:
            ValueError: for another shape, device or kind; TypeError for no matrix.

        Sources: Wang et al. 2020, "MiniLM" (KL of a teacher's attention); Jiao et al. 2020, "TinyBERT" (l2).

        Example:
            >>> import sightline, torch
            >>> query, key = torch.randn(2, 1, 2, 10, 4).requires_grad_()
            >>> student = sightline.AttentionMatrix(query, key, detach=False)
            >>> teacher = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 10, 16))
            >>> teacher.divergence(student).mean().requires_grad
            True
        """
        _check(self, other)
        choice("divergence kind", kind, get_args(Kind))
        self._unchanged()
        other._unchanged()
        p, q = (replace(one._problem, value=None) for one in (self, other))
        pair = (q, p) if kind == "reverse_kl" else (p, q)
        return self._squeeze(computed(_ORDERS[cast(Kind, kind)], None, pair, ())[0])


def _check(matrix: MatrixCore, other: MatrixCore) -> None:
    kind("divergence other", other, MatrixCore, "an attention matrix")
    check_device("divergence other", other, matrix.device)
    if other.shape != matrix.shape:
        raise ValueError(
            f"divergence: the other matrix has shape {list(other.shape)}, this one {list(matrix.shape)}. "
            "Compare rows of the same queries, keys and heads; A[:, heads] takes some heads."
        )


def _weighed(weights: Tensor, logs: Tensor) -> Tensor:
    """Σ over keys of weights · logs, in which a weight of 0 takes no part, [b,H,n]."""
    return (weights * logs.masked_fill(weights.detach() == 0, 0)).sum(-1)


def _kl(p: Rows, q: Rows) -> Tensor:
    return _weighed(p.weights, p.log_weights - q.log_weights)


def _js(p: Rows, q: Rows) -> Tensor:
    both = p.weights + q.weights
    middle = (both / 2).masked_fill(both.detach() == 0, 1).log()
    return (_weighed(p.weights, p.log_weights - middle) + _weighed(q.weights, q.log_weights - middle)) / 2


def _l2(p: Rows, q: Rows) -> Tensor:
    return (p.weights - q.weights).square().sum(-1)


def _order(rule: Callable[[Rows, Rows], Tensor]) -> Order:
    def of_block(part: Part) -> Outputs:
        p, q = (rows_of(problem, part.careful) for problem in part.problems)
        return (rule(p, q),)

    return Order.of(Base(of_block, (Slot("divergence", "BHN"),), problems=2))


_ORDERS: dict[Kind, Order] = {
    "kl": _order(_kl),
    "reverse_kl": _order(_kl),
    "js": _order(_js),
    "l2": _order(_l2),
}

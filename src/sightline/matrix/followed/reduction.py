"""Reductions by a function of the user's, as something to differentiate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from sightline.backends import Problem
from sightline.backends.block import numbers
from sightline.backends.contract import Over
from sightline.backends.derivatives import Base, Order, Part, Slot
from sightline.backends.derivatives.order import Arrays, Outputs
from sightline.backends.derivatives.rows import rows_of
from sightline.matrix.followed.read import computed
from sightline.transforms import Kernels

Operation = Literal["sum", "max", "min"]
Function: TypeAlias = Callable[..., Any]

_WINNER = {"keys": Slot("winner", "BHN", smooth=False), "queries": Slot("winner", "BHM", smooth=False)}


def applied(function: Function, pairs: tuple[Tensor, ...], shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """What the function gives for a block, [b,H,n,m], or an error that says what is wrong with it."""
    found = function(*pairs)
    if not isinstance(found, Tensor) or found.is_complex():
        kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
        raise TypeError(f"reduce f: must give a real tensor, got {kind}.")
    try:
        return found.to(dtype).expand(shape)
    except RuntimeError:
        raise ValueError(
            f"reduce f: gave shape {list(found.shape)} for a block [b,H,n,m] of {list(shape)}. It must be "
            "elementwise: one number for each pair."
        ) from None


def reduced(
    functions: Sequence[Function],
    over: Over,
    problem: Problem,
    extra: Sequence[Tensor],
    winners: Sequence[Tensor | None],
    once: Callable[[], tuple[Tensor, ...]],
) -> tuple[Tensor, ...]:
    """The reductions by several functions such that derivatives reach problem and extras.

    Args:
        functions: of weights, scores, positions and extras.
        over: what is summed over.
        problem: whose matrix it is.
        extra: [1|B, 1|H, 1|N, 1|M] each.
        winners: of a largest or smallest value, which pair it is, [B,H,N] or [B,H,M]; ``None`` for a sum.
        once: gives the reductions themselves, already computed.
    """
    axes = "BHN" if over == "keys" else "BHM"
    others = [
        Slot(f"extra {at}", "BHNM", "BHNM", tensor.is_floating_point()) for at, tensor in enumerate(extra)
    ]
    others += [_WINNER[over]] * len(winners)
    outputs = tuple(Slot(f"reduced {at}", axes) for at in range(len(functions)))
    base = Base(_rule(functions, over, len(extra)), outputs, tuple(others))
    return computed(Order.of(base), _Once(once), (problem,), (*extra, *winners))


class _Once(Kernels):
    """The outputs are there already; derivatives are computed block by block."""

    def __init__(self, once: Callable[[], tuple[Tensor, ...]]) -> None:
        self.once = once

    def outputs(self, problems: tuple[Problem, ...], others: Arrays) -> tuple[Tensor, ...]:
        return self.once()

    def derivative(self, order: Order, problems: tuple[Problem, ...], arrays: Arrays) -> None:
        return None


def _rule(functions: Sequence[Function], over: Over, extras: int) -> Callable[[Part], Outputs]:
    axis = -1 if over == "keys" else -2

    def rule(part: Part) -> Outputs:
        rows, (i, j) = rows_of(part.problems[0], part.careful), numbers(part.whole[0], part.place)
        hidden = ~rows.seen
        more = (_shown(one, hidden) for one in part.others[:extras])
        given = (rows.weights, rows.masked, i, j, *more)
        sums = []
        for function, winner in zip(functions, part.others[extras:], strict=True):
            pairs = applied(function, given, rows.masked.shape, rows.masked.dtype)
            left_out = hidden if winner is None else ~_is(winner, over, i, j)
            sums.append(pairs.masked_fill(left_out, 0).sum(axis))
        return tuple(sums)

    return rule


def _shown(extra: Tensor | None, hidden: Tensor) -> Tensor:
    """An extra tensor to which hidden pairs, where functions may give NaN, send no derivative."""
    assert extra is not None
    return extra.expand(hidden.shape).masked_fill(hidden, 0) if extra.is_floating_point() else extra


def _is(winner: Tensor, over: Over, i: Tensor, j: Tensor) -> Tensor:
    """Where the pairs are that a largest or smallest value is that of."""
    return winner[..., None] == j if over == "keys" else winner[:, :, None] == i


def neutral(op: Operation) -> float:
    """What a reduction over nothing is."""
    return {"sum": 0.0, "max": -math.inf, "min": math.inf}[op]

"""Attention that also says what each key received, in the one pass where the backend can."""

from __future__ import annotations

from torch import Tensor

from sightline.backends import Problem, choose
from sightline.backends.problem import tensors_in_order
from sightline.call import listeners
from sightline.common import dispatcher


def run_received(problem: Problem, received: Tensor) -> tuple[Tensor, Tensor] | None:
    """(context, lse), where what each key received is added to ``received``; without the dispatcher.

    ``None`` where others take part in the call, somebody listens or gradients are recorded: what keys
    received is then read off the matrix of :func:`attention`.

    Args:
        problem: one with a value.
        received: [B,G,M], float32 (float64 for float64): the weights summed over the queries, and over the
            query heads of each key/value head. Dropout is left out.
    """
    tensors = tensors_in_order(problem)
    alone = dispatcher.is_quiet() and dispatcher.are_plain(tensors) and not dispatcher.are_recorded(tensors)
    if not alone or listeners.anybody() or isinstance(problem.softcap, Tensor):
        return None
    return choose(problem).forward_received(problem, received)


def over_groups(of_heads: Tensor, groups: int) -> Tensor:
    """[B,H,M] → [B,G,M], the sum over the query heads of each key/value head."""
    b, h, m = of_heads.shape
    return of_heads.reshape(b, groups, h // groups if groups else 1, m).sum(2)

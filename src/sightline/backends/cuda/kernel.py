"""What a kernel of somebody else is to us, and what several of them share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sightline.backends.contract import Obstacle
from sightline.backends.problem import Problem
from sightline.backends.triton.launching import MOST_PROGRAMS

HALVES = (torch.float16, torch.bfloat16)
WIDEST = 256


class Kernel(Protocol):
    """A kernel of somebody else.

    Attributes:
        name: what explanations call it.
    """

    name: str

    def why_not(self, problem: Problem) -> Obstacle | None:
        """Why it cannot do this, or ``None`` if it can."""

    def computed(self, problem: Problem) -> float:
        """The share of the matrix that it computes."""

    def forward(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """(context [B,H,N,E], lse [B,H,N]), without sinks."""

    def backward(
        self, problem: Problem, context: Tensor, lse: Tensor, grad_context: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of query, key and value, given a context and an lse with the sinks' share."""


class WrongShapeError(RuntimeError):
    """A kernel gave an lse of a shape that is not known of it."""


def expect(name: str, lse: Tensor, *shapes: tuple[int, ...]) -> None:
    """Raises where an lse has none of the shapes."""
    if tuple(lse.shape) not in shapes:
        raise WrongShapeError(f"its lse has the shape {list(lse.shape)}, not {list(shapes[0])}")


def dtype_obstacle(problem: Problem, dtypes: Sequence[torch.dtype]) -> Obstacle | None:
    """Where a problem's dtype is none of those that a kernel takes."""
    dtype = problem.query.dtype
    if dtype in dtypes:
        return None
    names = [str(one).removeprefix("torch.") for one in dtypes]
    return Obstacle(f"the dtype is {dtype}, and it takes {', '.join(names[:-1])} and {names[-1]}")


def size_obstacle(samples: int, heads: int) -> Obstacle | None:
    """More samples or heads than a grid of programs has along an axis."""
    for number, what in ((samples, "samples"), (heads, "heads")):
        if number > MOST_PROGRAMS:
            return Obstacle(f"there are {number} {what}, and it takes {MOST_PROGRAMS}", "Give fewer at once")
    return None


def terms_obstacle(problem: Problem) -> Obstacle | None:
    """What a kernel does not know that has nothing but ranges of keys."""
    terms = {
        "bias": problem.bias is not None or problem.slopes is not None or problem.table is not None,
        "softcap": problem.softcap is not None,
        "dropout": problem.dropout > 0,
        "dense mask": problem.visible is not None,
    }
    there = [name for name, asked in terms.items() if asked]
    return Obstacle(f"it knows no {' and no '.join(there)}") if there else None

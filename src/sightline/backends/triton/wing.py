"""The Triton backend: what is read off the matrix, on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from sightline.backends.contract import (
    ALL,
    READOUTS,
    Answer,
    Backend,
    Cells,
    Obstacle,
    OfEntropy,
    Over,
    Plan,
    PooledRegion,
    Request,
    Summand,
    Work,
)
from sightline.backends.problem import Problem
from sightline.backends.seen import finite, may_hide
from sightline.backends.select import select_rows, strided
from sightline.backends.triton.given import DTYPES, MOST, WIDEST
from sightline.backends.triton.launching import MOST_PROGRAMS
from sightline.common.triton import missing as missing

#: What it does; attention itself, and what needs autograd, it leaves to others.
_WORK = frozenset((*READOUTS, "lse", "pool", "product", "transposed_product", "sum"))
#: The compute capability that tensor cores of bfloat16 came with; the kernels are compiled for it and newer.
_OLDEST = (8, 0)


class Triton(Backend):
    """Readouts of float32, float16 and bfloat16 on CUDA."""

    name = "triton"
    devices = ("cuda",)
    title = "Triton"
    kernels = "Triton kernels"
    cost = 1

    def why_not(self, problem: Problem, work: Work) -> Obstacle | None:
        """It reads matrices on CUDA; it does not compute attention."""
        device = problem.query.device
        if device.type != "cuda":
            return Obstacle(f"the tensors are on {device}, and it runs on CUDA", "Use .cuda()")
        if work.name not in _WORK:
            return Obstacle(f"it reads matrices, and {work.name} is something else")
        if problem.query.dtype not in DTYPES or problem.key.dtype != problem.query.dtype:
            return Obstacle(
                f"the dtype is {problem.query.dtype}, and it takes float32, float16 and bfloat16",
                "Use .float() where that is precise enough",
            )
        if problem.query.shape[3] > WIDEST:
            return Obstacle(f"heads are {problem.query.shape[3]} wide, and it takes up to {WIDEST}")
        if missing() is not None:
            return Obstacle(str(missing()), "pip install triton")
        capability = torch.cuda.get_device_capability(device)
        if capability < _OLDEST:
            return Obstacle(f"the card is of compute capability {capability[0]}.{capability[1]}, below 8.0")
        return _why_not_read(problem, work)

    def facts(self) -> Mapping[str, str]:
        """Triton's version."""
        if missing() is not None:
            return {"triton": f"not available: {missing()}"}
        from importlib.metadata import version

        return {"triton": version("triton")}

    def plan(self, problem: Problem) -> Plan:
        """It runs no attention."""
        raise NotImplementedError("the Triton backend reads matrices; it runs no attention")

    def forward(self, problem: Problem, want_lse: bool = True) -> tuple[Tensor, Tensor | None]:
        """Is never asked."""
        raise NotImplementedError("the Triton backend reads matrices; it runs no attention")

    def forward_received(self, problem: Problem, received: Tensor) -> tuple[Tensor, Tensor]:
        """Is never asked."""
        raise NotImplementedError("the Triton backend reads matrices; it runs no attention")

    def backward(
        self,
        problem: Problem,
        context: Tensor,
        lse: Tensor,
        grad_context: Tensor,
        grad_lse: Tensor | None,
        wanted: Collection[str],
        of_entropy: OfEntropy | None = None,
    ) -> dict[str, Tensor]:
        """Is never asked."""
        raise NotImplementedError("the Triton backend reads matrices; it runs no attention")

    def tangent(
        self, problem: Problem, tangents: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Is never asked."""
        raise NotImplementedError("the Triton backend reads matrices; it runs no attention")

    def cells(
        self,
        problem: Problem,
        lse: Tensor,
        rows: slice,
        cols: slice,
        cells: Cells | None,
        fields: Collection[str],
    ) -> dict[str, Tensor]:
        """Is never asked."""
        raise NotImplementedError("the Triton backend has no cells of rows")

    def lse(self, problem: Problem, rows: slice = ALL) -> Tensor:
        """Recomputed, without the weighted sum."""
        from sightline.backends.triton.passes import row_lse  # late: Triton may be missing

        return row_lse(problem if rows == ALL else select_rows(problem, rows))

    def readouts(self, problem: Problem, lse: Tensor, requests: Sequence[Request]) -> dict[str, Answer]:
        """One pass over rows, one over columns."""
        from sightline.backends.triton.passes import readouts

        return readouts(problem, lse, requests)

    def summed(self, problem: Problem, lse: Tensor, summand: Summand, over: Over) -> Tensor:
        """By the row pass or the column pass."""
        from sightline.backends.triton.passes import summed

        return summed(problem, lse, summand, over)

    def pool(self, problem: Problem, lse: Tensor, region: PooledRegion) -> Tensor:
        """A program for each cell."""
        from sightline.backends.triton.passes import pool

        return pool(problem, lse, region)

    def product(self, problem: Problem, lse: Callable[[], Tensor], x: Tensor) -> Tensor:
        """Rows of x that are hidden and not finite are left to plain PyTorch."""
        from sightline.backends.plain import Plain
        from sightline.backends.triton.passes import product

        found = product(problem, lse(), x)
        if may_hide(problem) and not finite([found]):
            return Plain().product(problem, lse, x)
        return found

    def transposed_product(self, problem: Problem, lse: Tensor, x: Tensor) -> Tensor:
        """The same over columns."""
        from sightline.backends.plain import Plain
        from sightline.backends.triton.passes import transposed_product

        found = transposed_product(problem, lse, x)
        if may_hide(problem) and not finite([found]):
            return Plain().transposed_product(problem, lse, x)
        return found


def _why_not_read(problem: Problem, work: Work) -> Obstacle | None:
    if work.gradients:
        return Obstacle("gradients are wanted; leave detach=True where they are not")
    if work.name == "topk" and work.k > MOST:
        return Obstacle(f"k={work.k} is above {MOST}")
    b, h, _, _ = problem.shape
    if b * h > MOST_PROGRAMS:
        return Obstacle(
            f"there are {b * h} matrices, and it takes {MOST_PROGRAMS} at once", "Give fewer samples"
        )
    if work.rows != ALL and strided(problem, work.rows):
        return Obstacle("its rows are no neighbours, and the bias counts positions; use a step of 1")
    return None

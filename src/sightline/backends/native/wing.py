"""The native backend: the C++ core, for float32, bfloat16 and float16 on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from torch import Tensor

from sightline.backends.contract import (
    ALL,
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
from sightline.backends.dropout import is_part
from sightline.backends.native import bare as bare_kernels
from sightline.backends.native import kernels
from sightline.backends.native.cells import cell_rows
from sightline.backends.native.named import named
from sightline.backends.native.pack import DTYPES
from sightline.backends.native.plan import plan
from sightline.backends.native.pool import pool
from sightline.backends.native.products import product, transposed_product
from sightline.backends.problem import Bare, Problem
from sightline.backends.select import select_rows, strided
from sightline.core import library


class Native(Backend):
    """Attention by kernels that are compiled for each instruction set, loaded through ctypes."""

    name = "cpu"
    devices = ("cpu",)
    title = "native"
    kernels = "the native kernels"
    cost = 1

    def why_not(self, problem: Problem, work: Work) -> Obstacle | None:
        """It runs on the CPU, in three dtypes, and autograd cannot follow its readouts."""
        if problem.query.device.type != "cpu":
            device = problem.query.device
            return Obstacle(f"the tensors are on {device}, and it runs on the CPU", "Use .cpu()")
        if problem.query.dtype not in DTYPES:
            return Obstacle(
                f"the dtype is {problem.query.dtype}, and it takes float32, bfloat16 and float16",
                "Use .float() where that is precise enough",
            )
        missing = library.available()
        if missing is not None:
            return Obstacle(missing.rstrip("."), "sightline.info() says what is there")
        if problem.dropout > 0 and is_part(problem):
            return Obstacle("its dropout pattern is that of a whole matrix, not of a part of one")
        if work.name == "tangent":
            from sightline.backends.native import tangent as in_forward_mode  # late: few programs need it

            return in_forward_mode.why_not(problem, work)
        return None if work.name == "attention" else _why_not_read(problem, work)

    def facts(self) -> Mapping[str, str]:
        """Where the core lies, and its instruction-set levels."""
        missing = library.available()
        if missing is not None:
            return {"native core": f"not available: {missing}"}
        built = library.built_levels()
        return {
            "native core": str(library.library()._name),
            "levels built": ", ".join(built),
            "levels here": ", ".join(library.levels()),
            "level active": built[library.level()],
        }

    def plan(self, problem: Problem) -> Plan:
        """By the core's own schedule."""
        return plan(problem)

    def forward(self, problem: Problem, want_lse: bool = True) -> tuple[Tensor, Tensor | None]:
        """The lse in float64."""
        return kernels.forward(problem, want_lse)

    def forward_bare(self, bare: Bare, want_lse: bool) -> tuple[Tensor, Tensor | None] | None:
        """Without a Problem in between."""
        if bare.query.dtype not in DTYPES or library.available() is not None:
            return None
        return bare_kernels.forward(bare, want_lse)

    def forward_received(self, problem: Problem, received: Tensor) -> tuple[Tensor, Tensor]:
        """A decode in one pass; the sums are float32."""
        return kernels.forward_received(problem, received)

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
        """Gradients of query, key, value and bias in their dtype, others in float32."""
        return kernels.backward(problem, context, lse, grad_context, grad_lse, wanted, of_entropy)

    def backward_bare(
        self, bare: Bare, context: Tensor, lse: Tensor, grad_context: Tensor, wanted: Sequence[bool]
    ) -> list[Tensor | None] | None:
        """Without a Problem in between."""
        return bare_kernels.backward(bare, context, lse, grad_context, wanted)

    def tangent(
        self, problem: Problem, tangents: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """In one sweep over the keys."""
        from sightline.backends.native import tangent as in_forward_mode

        return in_forward_mode.tangent(problem, tangents)

    def lse(self, problem: Problem, rows: slice = ALL) -> Tensor:
        """In float64."""
        return kernels.row_lse(problem if rows == ALL else select_rows(problem, rows))

    def readouts(self, problem: Problem, lse: Tensor, requests: Sequence[Request]) -> dict[str, Answer]:
        """All of them in one pass."""
        return named(problem, lse, requests)

    def summed(self, problem: Problem, lse: Tensor, summand: Summand, over: Over) -> Tensor:
        """In one pass of readouts."""
        field = "row_sums" if over == "keys" else "key_sums"
        return kernels.readouts(problem, lse, [field], summand=summand)[field]

    def cells(
        self,
        problem: Problem,
        lse: Tensor,
        rows: slice,
        cols: slice,
        cells: Cells | None,
        fields: Collection[str],
    ) -> dict[str, Tensor]:
        """Rows with a step only where positions do not count."""
        return cell_rows(problem, lse, rows, cols, cells, fields)

    def pool(self, problem: Problem, lse: Tensor, region: PooledRegion) -> Tensor:
        """From rows of cells."""
        return pool(problem, lse, region)

    def product(self, problem: Problem, lse: Callable[[], Tensor], x: Tensor) -> Tensor:
        """As attention with x for values."""
        return product(problem, x)

    def transposed_product(self, problem: Problem, lse: Tensor, x: Tensor) -> Tensor:
        """As the gradient of such values."""
        return transposed_product(problem, lse, x)


def _why_not_read(problem: Problem, work: Work) -> Obstacle | None:
    """Why the kernels cannot do what is read off the matrix, where they take the problem."""
    if work.gradients:
        return Obstacle("gradients are wanted; leave detach=True where they are not")
    if (
        work.name in ("pool", "cells")
        and problem.table is not None
        and bool((problem.table == -math.inf).any())
    ):
        return Obstacle("its table hides what lies -inf apart, and its pictures count that as visible")
    if work.name == "topk" and work.k > kernels.max_topk():
        return Obstacle(f"k={work.k} is above {kernels.max_topk()}")
    if work.rows != ALL and strided(problem, work.rows):
        return Obstacle("its rows are no neighbours, and the bias counts positions; use a step of 1")
    return None

"""The plain backend: PyTorch in blocks, on any device and dtype."""

from __future__ import annotations

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
from sightline.backends.plain.backward import backward
from sightline.backends.plain.cells import cell_rows
from sightline.backends.plain.forward import forward, row_lse
from sightline.backends.plain.plan import plan as plan_of
from sightline.backends.plain.pool import pool
from sightline.backends.plain.readouts import Product, Received, TransposedProduct, multiplied, named, run
from sightline.backends.plain.sums import summed
from sightline.backends.problem import Problem


class Plain(Backend):
    """Attention in blocks of plain PyTorch: takes every problem, and autograd can follow its readouts."""

    name = "chunked"
    title = "plain PyTorch"
    kernels = "plain PyTorch"
    cost = 8

    def why_not(self, problem: Problem, work: Work) -> Obstacle | None:
        """It can do everything."""
        return None

    def facts(self) -> Mapping[str, str]:
        """Nothing besides PyTorch's version."""
        return {}

    def plan(self, problem: Problem) -> Plan:
        """Both passes alike."""
        return plan_of(problem)

    def forward(self, problem: Problem, want_lse: bool = True) -> tuple[Tensor, Tensor]:
        """Gives the lse whether it is wanted or not."""
        return forward(problem)

    def forward_received(self, problem: Problem, received: Tensor) -> tuple[Tensor, Tensor]:
        """In two passes."""
        context, lse = forward(problem)
        (sums,) = run(problem, lse, [Received(problem)])
        received += sums.unflatten(1, (received.shape[1], -1)).sum(2) if sums.numel() else 0
        return context, lse

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
        """Gradients in float32 or float64."""
        return backward(problem, context, lse, grad_context, grad_lse, wanted, of_entropy)

    def tangent(
        self, problem: Problem, tangents: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Each block differentiated by PyTorch."""
        from sightline.backends.plain.tangent import tangent  # late: few programs need it

        return tangent(problem, tangents)

    def lse(self, problem: Problem, rows: slice = ALL) -> Tensor:
        """Of some rows."""
        return row_lse(problem, rows)

    def readouts(self, problem: Problem, lse: Tensor, requests: Sequence[Request]) -> dict[str, Answer]:
        """All of them in one pass over the blocks."""
        return named(problem, lse, requests)

    def summed(self, problem: Problem, lse: Tensor, summand: Summand, over: Over) -> Tensor:
        """In one pass over the blocks."""
        return summed(problem, lse, summand, over)

    def cells(
        self,
        problem: Problem,
        lse: Tensor,
        rows: slice,
        cols: slice,
        cells: Cells | None,
        fields: Collection[str],
    ) -> dict[str, Tensor]:
        """Rows with any step."""
        return cell_rows(problem, lse, rows, cols, cells, fields)

    def pool(self, problem: Problem, lse: Tensor, region: PooledRegion) -> Tensor:
        """Sums in float64."""
        return pool(problem, lse, region)

    def product(self, problem: Problem, lse: Callable[[], Tensor], x: Tensor) -> Tensor:
        """Block by block."""
        return multiplied(problem, lse(), x, Product)

    def transposed_product(self, problem: Problem, lse: Tensor, x: Tensor) -> Tensor:
        """Block by block."""
        return multiplied(problem, lse, x, TransposedProduct)

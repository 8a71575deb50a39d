"""What can be read off the attention matrix in one pass over its blocks, in plain PyTorch.

Each readout is a small object: it allocates its output, takes one block of rows after another, and hands
the output over. Several of them share one pass. Memory is one block, plus the outputs.

Letters: B batch, H heads, N queries, M keys; a block has b x H x n x m entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from sightline.backends.block import MatrixBlock
from sightline.backends.contract import ALL, Answer, Request, Values
from sightline.backends.plain.forward import blocks
from sightline.backends.problem import Problem, compute_dtype
from sightline.backends.seen import finite, may_hide, over_seen
from sightline.backends.select import part
from sightline.positions.align import Align, offsets


class Readout(Protocol):
    """A readout that takes blocks."""

    def take(self, block: MatrixBlock) -> None:
        """Adds one block; its columns are never empty."""

    def result(self) -> Any:
        """The finished readout."""


def run(
    problem: Problem, lse: Tensor, readouts: Sequence[Readout], rows: slice = ALL, cols: slice = ALL
) -> list[Any]:
    """The results of several readouts from one pass over the matrix (or a part of it)."""
    for block in blocks(problem, rows, cols, lse):
        for readout in readouts:
            readout.take(block)
    return [readout.result() for readout in readouts]


def named(problem: Problem, lse: Tensor, requests: Sequence[Request]) -> dict[str, Answer]:
    """Several readouts by name, from one pass."""
    passes = [_NAMED[request.name](problem, request) for request in requests]
    return dict(zip((request.name for request in requests), run(problem, lse, passes), strict=True))


def _zeros(problem: Problem, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    return torch.zeros(shape, dtype=dtype or compute_dtype(problem), device=problem.query.device)


class Entropy:
    """-Σ w ln w over keys, in nats: [B,H,N]."""

    def __init__(self, problem: Problem) -> None:
        self.out = _zeros(problem, *problem.shape[:3])

    def take(self, block: MatrixBlock) -> None:
        batch, rows, _ = block.place
        # 0 · ln 0 counts as 0.
        logs = torch.where(block.weights > 0, block.log_weights, 0)
        self.out[batch, :, rows] = -(block.weights * logs).sum(-1)

    def result(self) -> Tensor:
        return self.out


class Received:
    """Σ over queries of the weight that each key gets: [B,H,M]."""

    def __init__(self, problem: Problem) -> None:
        b, h, _, m = problem.shape
        self.dtype = compute_dtype(problem)
        self.out = _zeros(problem, b, h, m, dtype=torch.float64)

    def take(self, block: MatrixBlock) -> None:
        batch, _, cols = block.place
        self.out[batch, :, cols] += block.weights.sum(-2)

    def result(self) -> Tensor:
        return self.out.to(self.dtype)


class Max:
    """Each row's largest weight and its key: [B,H,N]."""

    def __init__(self, problem: Problem) -> None:
        self.values = _zeros(problem, *problem.shape[:3])
        self.indices = torch.full_like(self.values, -1, dtype=torch.int64)

    def take(self, block: MatrixBlock) -> None:
        batch, rows, cols = block.place
        index = block.masked.argmax(-1)
        best = block.masked.gather(-1, index[..., None])[..., 0]
        self.values[batch, :, rows] = block.weights.gather(-1, index[..., None])[..., 0]
        self.indices[batch, :, rows] = torch.where(best != -math.inf, index + cols.start, -1)

    def result(self) -> Values:
        return Values(self.values, self.indices)


class MaxScore:
    """Each row's largest masked logit: [B,H,N]; -inf where nothing is visible, NaN in a row of NaN."""

    def __init__(self, problem: Problem) -> None:
        self.out = torch.full_like(_zeros(problem, *problem.shape[:3]), -math.inf)

    def take(self, block: MatrixBlock) -> None:
        batch, rows, _ = block.place
        self.out[batch, :, rows] = block.masked.amax(-1).masked_fill(block.lse.isnan(), math.nan)

    def result(self) -> Tensor:
        return self.out


class TopK:
    """Each row's k largest weights, descending, and their keys: [B,H,N,k]."""

    def __init__(self, problem: Problem, k: int) -> None:
        self.k = k
        self.values = _zeros(problem, *problem.shape[:3], k)
        self.indices = torch.full_like(self.values, -1, dtype=torch.int64)

    def take(self, block: MatrixBlock) -> None:
        batch, rows, cols = block.place
        k = min(self.k, block.masked.shape[-1])
        best, index = block.masked.topk(k, dim=-1)
        self.values[batch, :, rows, :k] = block.weights.gather(-1, index)
        self.indices[batch, :, rows, :k] = torch.where(best != -math.inf, index + cols.start, -1)

    def result(self) -> Values:
        return Values(self.values, self.indices)


class Distance:
    """Σ w · |i + offset - j|, in positions: [B,H,N]."""

    def __init__(self, problem: Problem, align: Align = "bottom-right") -> None:
        b, _, n, m = problem.shape
        self.out = _zeros(problem, *problem.shape[:3])
        self.offset = offsets(align, b, n, m, problem.query.device)

    def take(self, block: MatrixBlock) -> None:
        batch, rows, cols = block.place
        device = self.out.device
        query = torch.arange(self.out.shape[2], device=device)[rows]
        query = query + part(self.offset, 0, batch)[:, None]
        key = torch.arange(cols.start, cols.stop, device=device)
        steps = (query[..., None] - key).abs().to(self.out.dtype)
        self.out[batch, :, rows] = (block.weights * steps[:, None]).sum(-1)

    def result(self) -> Tensor:
        return self.out


class Mass:
    """Σ of the weights of each segment of keys: [B,H,N,S]."""

    def __init__(self, problem: Problem, segments: Tensor | None) -> None:
        b, h, n, _ = problem.shape
        assert segments is not None
        self.segments = segments if segments.dim() == 2 else segments[None]
        count = int(segments.max()) + 1 if segments.numel() else 0
        self.out = _zeros(problem, b, h, n, count)

    def take(self, block: MatrixBlock) -> None:
        batch, rows, cols = block.place
        segments = part(self.segments, 0, batch)[:, None, None, cols]
        sums = torch.zeros(
            (*block.weights.shape[:3], self.out.shape[3]), dtype=self.out.dtype, device=self.out.device
        )
        self.out[batch, :, rows] = sums.scatter_add(3, segments.expand(block.weights.shape), block.weights)

    def result(self) -> Tensor:
        return self.out


class Product:
    """The matrix times x [B|1, H|1, M, F]: [B,H,N,F]; ``careful``: hidden rows of x are left out."""

    def __init__(self, problem: Problem, x: Tensor, careful: bool = False) -> None:
        self.x, self.careful = x.to(compute_dtype(problem)), careful
        self.out = _zeros(problem, *problem.shape[:3], x.shape[-1])

    def take(self, block: MatrixBlock) -> None:
        batch, rows, cols = block.place
        rows_of_x = part(self.x, 0, batch)[:, :, cols]
        seen = block.masked != -math.inf if self.careful else None
        self.out[batch, :, rows] = over_seen(torch.matmul, block.weights, rows_of_x, seen)

    def result(self) -> Tensor:
        return self.out


class TransposedProduct:
    """The transposed matrix times x [B|1, H|1, N, F]: [B,H,M,F]; ``careful`` as in Product."""

    def __init__(self, problem: Problem, x: Tensor, careful: bool = False) -> None:
        b, h, _, m = problem.shape
        self.x, self.careful = x.to(compute_dtype(problem)), careful
        self.out = _zeros(problem, b, h, m, x.shape[-1])

    def take(self, block: MatrixBlock) -> None:
        batch, rows, cols = block.place
        rows_of_x = part(self.x, 0, batch)[:, :, rows]
        seen = (block.masked != -math.inf).mT if self.careful else None
        self.out[batch, :, cols] += over_seen(torch.matmul, block.weights.mT, rows_of_x, seen)

    def result(self) -> Tensor:
        return self.out


def multiplied(
    problem: Problem, lse: Tensor, x: Tensor, kind: type[Product] | type[TransposedProduct]
) -> Tensor:
    """A product with the matrix, once more where it is not finite and something may be hidden."""
    product: Tensor = run(problem, lse, [kind(problem, x)])[0]
    if may_hide(problem) and not finite([product]):
        product = run(problem, lse, [kind(problem, x, careful=True)])[0]
    return product


_NAMED: dict[str, Callable[[Problem, Request], Readout]] = {
    "entropy": lambda problem, request: Entropy(problem),
    "received": lambda problem, request: Received(problem),
    "max": lambda problem, request: Max(problem),
    "max_score": lambda problem, request: MaxScore(problem),
    "topk": lambda problem, request: TopK(problem, request.k),
    "distance": lambda problem, request: Distance(problem, request.align),
    "mass": lambda problem, request: Mass(problem, request.segments),
}

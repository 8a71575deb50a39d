"""What can be read off the attention matrix in one pass over its blocks, in plain PyTorch.

Each readout is a small object: it allocates its output, takes one block of rows after another, and hands
the output over. Several of them share one pass. Memory is one block, plus the outputs.

Letters: B batch, H heads, N queries, M keys; a block has b x H x n x m entries.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sightline.backends.problem import Problem
from sightline.backends.stages import Block, compute_dtype, logits, part, schedule, weights_of
from sightline.positions.align import Align, offsets


class Values(NamedTuple):
    """Largest weights and the keys that have them, both [B,H,N] or [B,H,N,k]; index -1 for "no key"."""

    values: Tensor
    indices: Tensor


class View(NamedTuple):
    """What a readout sees of one block."""

    block: Block
    masked: Tensor
    weights: Tensor
    lse: Tensor


class Readout(Protocol):
    """A readout that takes blocks."""

    def take(self, view: View) -> None:
        """Adds one block; its columns are never empty."""

    def result(self) -> Any:
        """The finished readout."""


def run(
    problem: Problem,
    lse: Tensor,
    readouts: Sequence[Readout],
    rows: slice | None = None,
    cols: slice | None = None,
) -> list[Any]:
    """The results of several readouts from one pass over the matrix (or a part of it)."""
    for block in schedule(problem, rows, cols):
        if block.cols.start < block.cols.stop:
            masked = logits(problem, block)
            lse_rows = lse[block.batch, :, block.rows]
            view = View(block, masked, weights_of(masked, lse_rows), lse_rows)
            for readout in readouts:
                readout.take(view)
    return [readout.result() for readout in readouts]


def _zeros(problem: Problem, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    return torch.zeros(shape, dtype=dtype or compute_dtype(problem), device=problem.query.device)


class Entropy:
    """-Σ w ln w over keys, in nats: [B,H,N]."""

    def __init__(self, problem: Problem) -> None:
        self.out = _zeros(problem, *problem.shape[:3])

    def take(self, view: View) -> None:
        batch, rows, _ = view.block
        # ln w = masked - lse, read as 0 where w is 0: 0 · ln 0 counts as 0.
        logs = torch.where(view.weights > 0, view.masked - view.lse[..., None], 0)
        self.out[batch, :, rows] = -(view.weights * logs).sum(-1)

    def result(self) -> Tensor:
        return self.out


class Received:
    """Σ over queries of the weight that each key gets: [B,H,M]."""

    def __init__(self, problem: Problem) -> None:
        b, h, _, m = problem.shape
        self.dtype = compute_dtype(problem)
        self.out = _zeros(problem, b, h, m, dtype=torch.float64)

    def take(self, view: View) -> None:
        batch, _, cols = view.block
        self.out[batch, :, cols] += view.weights.sum(-2)

    def result(self) -> Tensor:
        return self.out.to(self.dtype)


class Max:
    """Each row's largest weight and its key: [B,H,N]."""

    def __init__(self, problem: Problem) -> None:
        self.values = _zeros(problem, *problem.shape[:3])
        self.indices = torch.full_like(self.values, -1, dtype=torch.int64)

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        index = view.masked.argmax(-1)
        best = view.masked.gather(-1, index[..., None])[..., 0]
        self.values[batch, :, rows] = view.weights.gather(-1, index[..., None])[..., 0]
        self.indices[batch, :, rows] = torch.where(best > -math.inf, index + cols.start, -1)

    def result(self) -> Values:
        return Values(self.values, self.indices)


class MaxScore:
    """Each row's largest masked logit: [B,H,N]; -inf where nothing is visible."""

    def __init__(self, problem: Problem) -> None:
        self.out = torch.full_like(_zeros(problem, *problem.shape[:3]), -math.inf)

    def take(self, view: View) -> None:
        batch, rows, _ = view.block
        self.out[batch, :, rows] = view.masked.amax(-1)

    def result(self) -> Tensor:
        return self.out


class TopK:
    """Each row's k largest weights, descending, and their keys: [B,H,N,k]."""

    def __init__(self, problem: Problem, k: int) -> None:
        self.k = k
        self.values = _zeros(problem, *problem.shape[:3], k)
        self.indices = torch.full_like(self.values, -1, dtype=torch.int64)

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        k = min(self.k, view.masked.shape[-1])
        best, index = view.masked.topk(k, dim=-1)
        self.values[batch, :, rows, :k] = view.weights.gather(-1, index)
        self.indices[batch, :, rows, :k] = torch.where(best > -math.inf, index + cols.start, -1)

    def result(self) -> Values:
        return Values(self.values, self.indices)


class Distance:
    """Σ w · |i + offset - j|, in positions: [B,H,N]."""

    def __init__(self, problem: Problem, align: Align = "bottom-right") -> None:
        b, _, n, m = problem.shape
        self.out = _zeros(problem, *problem.shape[:3])
        self.offset = offsets(align, b, n, m, problem.query.device)

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        device = self.out.device
        query = torch.arange(self.out.shape[2], device=device)[rows]
        query = query + part(self.offset, 0, batch)[:, None]
        key = torch.arange(cols.start, cols.stop, device=device)
        steps = (query[..., None] - key).abs().to(self.out.dtype)
        self.out[batch, :, rows] = (view.weights * steps[:, None]).sum(-1)

    def result(self) -> Tensor:
        return self.out


class Mass:
    """Σ of the weights of each segment of keys: [B,H,N,S]."""

    def __init__(self, problem: Problem, segments: Tensor) -> None:
        b, h, n, _ = problem.shape
        self.segments = segments if segments.dim() == 2 else segments[None]
        count = int(segments.max()) + 1 if segments.numel() else 0
        self.out = _zeros(problem, b, h, n, count)

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        segments = part(self.segments, 0, batch)[:, None, None, cols]
        sums = torch.zeros(
            (*view.weights.shape[:3], self.out.shape[3]), dtype=self.out.dtype, device=self.out.device
        )
        self.out[batch, :, rows] = sums.scatter_add(3, segments.expand(view.weights.shape), view.weights)

    def result(self) -> Tensor:
        return self.out


class Product:
    """The matrix times x [B|1, H|1, M, F]: [B,H,N,F]."""

    def __init__(self, problem: Problem, x: Tensor) -> None:
        self.x = x.to(compute_dtype(problem))
        self.out = _zeros(problem, *problem.shape[:3], x.shape[-1])

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        self.out[batch, :, rows] = view.weights @ part(self.x, 0, batch)[:, :, cols]

    def result(self) -> Tensor:
        return self.out


class TransposedProduct:
    """The transposed matrix times x [B|1, H|1, N, F]: [B,H,M,F]."""

    def __init__(self, problem: Problem, x: Tensor) -> None:
        b, h, _, m = problem.shape
        self.x = x.to(compute_dtype(problem))
        self.out = _zeros(problem, b, h, m, x.shape[-1])

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        rows_of_x = part(self.x, 0, batch)[:, :, rows]
        self.out[batch, :, cols] += view.weights.transpose(-1, -2) @ rows_of_x

    def result(self) -> Tensor:
        return self.out


class Part:
    """The weights themselves, of some rows and columns: [B,H,n,m]."""

    def __init__(self, problem: Problem, rows: slice, cols: slice) -> None:
        b, h, n, m = problem.shape
        self.first, last, self.step = rows.indices(n)
        self.left, right, self.stride = cols.indices(m)
        height = len(range(self.first, last, self.step))
        width = len(range(self.left, right, self.stride))
        self.out = _zeros(problem, b, h, height, width)

    def take(self, view: View) -> None:
        batch, rows, cols = view.block
        begin = (rows.start - self.first) // self.step
        # The first wanted column within the block's.
        skip = (self.left - cols.start) % self.stride
        left = (cols.start + skip - self.left) // self.stride
        found = view.weights[..., skip :: self.stride]
        self.out[batch, :, begin : begin + found.shape[2], left : left + found.shape[3]] = found

    def result(self) -> Tensor:
        return self.out


NAMED: Mapping[str, Any] = {
    "entropy": Entropy,
    "received": Received,
    "max": Max,
    "max_score": MaxScore,
    "topk": TopK,
    "distance": Distance,
    "mass": Mass,
}

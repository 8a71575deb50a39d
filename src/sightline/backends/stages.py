"""The stages of attention on one block of the N x M matrix, in plain PyTorch.

``scores`` → ``scaled`` → ``capped`` → ``biased`` → ``masked``: what both the chunked backend and the
readouts build on. Runs on any device; half precision is computed in float32, float64 in float64.

Letters: B batch, H heads, G key/value heads, N queries, M keys, D width; a block has b x H x n x m entries.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.backends.problem import Problem
from sightline.positions import key_ranges

STAGES = ("scaled", "capped", "biased", "masked")

# Entries of one block: 8 MB in float32. A handful of such blocks is alive at a time.
BLOCK_ENTRIES = 1 << 21
# Rows whose ranges are looked at together.
_GRANULE = 64


class Block(NamedTuple):
    """A part of the matrix: some batch entries, all heads, some rows, some columns."""

    batch: slice
    rows: slice
    cols: slice


def compute_dtype(problem: Problem) -> torch.dtype:
    """float64 for float64, float32 for everything else."""
    return torch.float64 if problem.query.dtype == torch.float64 else torch.float32


def schedule(problem: Problem, rows: slice | None = None, cols: slice | None = None) -> Iterator[Block]:
    """Blocks of full rows that cover the matrix (or a part of it), cut to the keys that a row may see.

    Each row stands in one block only. Blocks whose rows see no key at all come with empty columns.
    """
    b, h, n, m = problem.shape
    first, last, step = (rows or slice(None)).indices(n)
    low, high, _ = (cols or slice(None)).indices(m)
    for start, stop, lo, hi in _row_blocks(problem, range(first, last, step), low, high):
        entries = max(1, BLOCK_ENTRIES // max(1, h * (stop - start) // step * (hi - lo)))
        for begin in range(0, b, entries):
            yield Block(slice(begin, min(b, begin + entries)), slice(start, stop, step), slice(lo, hi))


class _Rows(NamedTuple):
    """Rows start to stop, and the columns lo to hi that any of them may see."""

    start: int
    stop: int
    lo: int
    hi: int

    def joined(self, other: _Rows) -> _Rows:
        if self.lo >= self.hi or other.lo >= other.hi:
            seen = other if self.lo >= self.hi else self
            return _Rows(self.start, other.stop, seen.lo, seen.hi)
        return _Rows(self.start, other.stop, min(self.lo, other.lo), max(self.hi, other.hi))

    def area(self) -> int:
        return (self.stop - self.start) * (self.hi - self.lo)


def _row_blocks(problem: Problem, rows: range, low: int, high: int) -> Iterator[_Rows]:
    """Neighbouring granules joined while the block stays small and little outside their hulls is added."""
    heads = max(1, problem.shape[1])
    pending: _Rows | None = None
    for granule in _granules(problem, rows, low, high):
        if pending is None:
            pending = granule
            continue
        joined = pending.joined(granule)
        area = heads * joined.area() // rows.step
        lean = joined.area() <= 1.25 * (pending.area() + granule.area()) or area <= BLOCK_ENTRIES // 8
        if area <= BLOCK_ENTRIES and lean:
            pending = joined
        else:
            yield from _cut(pending, rows.step, heads)
            pending = granule
    if pending is not None:
        yield from _cut(pending, rows.step, heads)


def _cut(block: _Rows, step: int, heads: int) -> Iterator[_Rows]:
    """The block in pieces of at most BLOCK_ENTRIES."""
    height = max(1, BLOCK_ENTRIES // max(1, heads * (block.hi - block.lo))) * step
    for start in range(block.start, block.stop, height):
        yield _Rows(start, min(block.stop, start + height), block.lo, block.hi)


def _granules(problem: Problem, rows: range, low: int, high: int) -> list[_Rows]:
    """Every 64 rows, with the columns that any of them may see; one look at the ranges for all of them."""
    height = _GRANULE * rows.step
    starts = range(rows.start, rows.stop, height)
    if problem.ranges is None or high <= low or not len(starts):
        return [_Rows(s, min(rows.stop, s + height), low, max(low, high)) for s in starts]
    lows, highs = problem.ranges[..., 0], problem.ranges[..., 1]
    empty = lows >= highs
    lows = lows.masked_fill(empty, high).amin(dim=(0, 1, 3))
    highs = highs.masked_fill(empty, low).amax(dim=(0, 1, 3))
    if lows.shape[0] == 1:
        lows, highs = lows.expand(rows.stop), highs.expand(rows.stop)
    hulls = zip(_per_granule(lows, rows, height, high), _per_granule(-highs, rows, height, -low), strict=True)
    found = []
    for start, (lo, negative_hi) in zip(starts, hulls, strict=True):
        lo, hi = max(low, lo), min(high, -negative_hi)
        found.append(_Rows(start, min(rows.stop, start + height), *((lo, hi) if lo < hi else (low, low))))
    return found


def _per_granule(bound: Tensor, rows: range, height: int, fill: int) -> list[int]:
    """The least bound of each granule."""
    chosen = bound[rows.start : rows.stop]
    padded = torch.nn.functional.pad(chosen, (0, -len(chosen) % height), value=fill)
    found: list[int] = padded.reshape(-1, height).amin(-1).tolist()
    return found


def product(problem: Problem, left: Tensor, right: Tensor) -> Tensor:
    """[b,H,n,x] @ [b,G,x,m] -> [b,H,n,m]: each query head with its group's right-hand side, not repeated."""
    b, h, n, x = left.shape
    groups = right.shape[1]
    folded = left.reshape(b, groups, h // groups * n, x) @ right
    return folded.reshape(b, h, n, right.shape[-1])


def product_to_keys(problem: Problem, left: Tensor, right: Tensor) -> Tensor:
    """Σ over queries and heads of a group: [b,H,n,m]ᵀ @ [b,H,n,x] -> [b,G,m,x]."""
    b, h, n, m = left.shape
    groups = problem.key.shape[1]
    folded = left.reshape(b, groups, h // groups * n, m)
    return folded.transpose(-1, -2) @ right.reshape(b, groups, h // groups * n, right.shape[-1])


def part(tensor: Tensor, axis: int, index: slice) -> Tensor:
    """``index`` along ``axis``, unless that axis broadcasts."""
    return tensor if tensor.shape[axis] == 1 else tensor[(slice(None),) * axis + (index,)]


def logits(problem: Problem, block: Block, stage: str = "masked") -> Tensor:
    """The block's logits at one stage: [b,H,n,m]."""
    return run_stages(problem, block, stage)[-1]


def run_stages(problem: Problem, block: Block, last: str = "masked") -> tuple[Tensor, Tensor]:
    """(capped, logits at stage ``last``); where ``last`` is "scaled", both are the scaled scores."""
    dtype = compute_dtype(problem)
    query = problem.query[block.batch, :, block.rows].to(dtype)
    key = problem.key[block.batch, :, block.cols].to(dtype)
    scaled = product(problem, query, key.transpose(-1, -2)) * problem.scale
    if last == "scaled":
        return scaled, scaled
    capped = cap(problem, scaled)
    if last == "capped":
        return capped, capped
    bias = bias_of(problem, block)
    biased = capped if bias is None else capped + bias
    if last == "biased":
        return capped, biased
    hidden = hidden_of(problem, block)
    return capped, biased if hidden is None else biased.masked_fill(hidden, -math.inf)


def cap(problem: Problem, scaled: Tensor) -> Tensor:
    """softcap · tanh(scaled / softcap), or the scaled scores where there is no softcap."""
    if problem.softcap is None:
        return scaled
    return problem.softcap * torch.tanh(scaled / problem.softcap)


def steps(problem: Problem, block: Block) -> Tensor:
    """j - i - offset, [1|b, n, m]."""
    device = problem.query.device
    query = torch.arange(problem.shape[2], device=device)[block.rows]
    key = torch.arange(block.cols.start, block.cols.stop, device=device)
    assert problem.offset is not None
    return key - (query[:, None] + part(problem.offset, 0, block.batch)[:, None, None])


def bias_of(problem: Problem, block: Block) -> Tensor | None:
    """The sum of all bias terms, broadcasting to [b,H,n,m]; ``None`` if there is none."""
    dtype = compute_dtype(problem)
    total = None
    if problem.bias is not None:
        total = part(part(part(problem.bias, 0, block.batch), 2, block.rows), 3, block.cols).to(dtype)
    if problem.slopes is not None:
        slopes = part(problem.slopes, 0, block.batch).to(dtype)
        term = -slopes[..., None, None] * steps(problem, block).abs()[:, None]
        total = term if total is None else total + term
    if problem.table is not None:
        term = problem.table.to(dtype)[:, table_index(problem, block)].movedim(0, 1)
        total = term if total is None else total + term
    return total


def table_index(problem: Problem, block: Block) -> Tensor:
    """Where each entry of the block reads the relative table, [1|b, n, m]."""
    assert problem.table is not None
    radius = problem.table.shape[1] // 2
    return steps(problem, block).clamp(-radius, radius) + radius


def hidden_of(problem: Problem, block: Block) -> Tensor | None:
    """True where a query may not look, broadcasting to [b,H,n,m]; ``None`` if nothing is hidden."""
    seen = None
    if problem.ranges is not None:
        ranges = part(part(problem.ranges, 0, block.batch), 2, block.rows)
        seen = key_ranges.contains(ranges, block.cols)
    if problem.visible is not None:
        visible = part(part(part(problem.visible, 0, block.batch), 2, block.rows), 3, block.cols)
        seen = visible if seen is None else seen & visible
    return None if seen is None else ~seen


def weights_of(masked: Tensor, lse: Tensor) -> Tensor:
    """exp(masked - lse); 0 throughout a row with nothing to look at, whose lse is -inf."""
    return torch.exp(masked - lse.masked_fill(lse == -math.inf, 0)[..., None])


def pair_logits(problem: Problem, rows: Tensor, keys: Tensor) -> Tensor:
    """The masked logit of one key per query: ``rows`` [n], ``keys`` [B,H,n] -> [B,H,n]."""
    b, h, n = keys.shape
    dtype = compute_dtype(problem)
    key_heads = keys.reshape(b, problem.key.shape[1], -1)[..., None].expand(-1, -1, -1, problem.key.shape[3])
    chosen = problem.key.gather(2, key_heads).reshape(b, h, n, -1).to(dtype)
    scaled = (problem.query[:, :, rows].to(dtype) * chosen).sum(-1) * problem.scale
    biased = cap(problem, scaled)
    entry = (
        torch.arange(b, device=keys.device)[:, None, None],
        torch.arange(h, device=keys.device)[:, None],
        rows,
        keys,
    )
    if problem.bias is not None:
        biased = biased + problem.bias.expand(problem.shape)[entry].to(dtype)
    if problem.offset is not None:
        step = keys - (rows + problem.offset[:, None, None])
        if problem.slopes is not None:
            biased = biased - problem.slopes.to(dtype)[..., None] * step.abs()
        if problem.table is not None:
            radius = problem.table.shape[1] // 2
            table = problem.table.expand(h, -1).to(dtype)
            biased = biased + table[entry[1], step.clamp(-radius, radius) + radius]
    return biased.masked_fill(~_pairs_seen(problem, rows, keys, entry), -math.inf)


def _pairs_seen(problem: Problem, rows: Tensor, keys: Tensor, entry: tuple[Tensor, ...]) -> Tensor:
    seen = torch.ones_like(keys, dtype=torch.bool)
    if problem.ranges is not None:
        ranges = problem.ranges if problem.ranges.shape[2] == 1 else problem.ranges[:, :, rows]
        inside = (keys[..., None] >= ranges[..., 0]) & (keys[..., None] < ranges[..., 1])
        seen = seen & inside.any(-1)
    if problem.visible is not None:
        seen = seen & problem.visible.expand(problem.shape)[entry]
    return seen

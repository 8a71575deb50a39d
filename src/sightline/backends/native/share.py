"""Which share of the matrix the native kernels compute, counted in the tiles that they skip by."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.backends.problem import Problem
from sightline.positions import key_ranges

# The kernels skip what 16 queries do not see of 16 keys.
_TILE = 16


def computed_share(problem: Problem) -> float:
    """From 0 to 1."""
    if 0 in problem.shape:
        return 0.0
    seen = _tiles_of_ranges(problem)
    if problem.visible is not None:
        seen = seen & _tiles_of_mask(problem.visible, problem.shape[3])
    return float(seen.double().mean())


def _tiles_of_ranges(problem: Problem) -> Tensor:
    """[1|B, 1|H, 1|N/16, M/16]: whether some of the 16 rows' ranges touch the tile."""
    m = problem.shape[3]
    tiles = slice(0, -(-m // _TILE))
    if problem.ranges is None:
        return torch.ones((1, 1, 1, tiles.stop), dtype=torch.bool, device=problem.query.device)
    ranges = problem.ranges
    empty = ranges[..., 0] >= ranges[..., 1]
    low, high = ranges[..., 0].masked_fill(empty, m), ranges[..., 1].masked_fill(empty, 0)
    # The hull over 16 rows, in tiles.
    low, high = -_pooled(-low), _pooled(high)
    hulls = torch.stack((low // _TILE, (high + _TILE - 1) // _TILE), dim=-1)
    return key_ranges.contains(hulls, tiles)


def _pooled(bound: Tensor) -> Tensor:
    """[b, h, N, R] -> [b, h, N/16, R]: the largest of 16 rows."""
    n = bound.shape[2]
    rows = torch.arange(-(-n // _TILE) * _TILE, device=bound.device).clamp(max=n - 1)
    b, h, _, slots = bound.shape
    return bound[:, :, rows].reshape(b, h, -1, _TILE, slots).amax(3)


def _tiles_of_mask(visible: Tensor, m: int) -> Tensor:
    """[1|B, 1|H, 1|N/16, M/16]: whether the tile shows anything."""
    rows = (visible,) if visible.shape[2] == 1 else torch.split(visible, _TILE, 2)
    per_row = torch.cat([part.any(dim=2, keepdim=True) for part in rows], 2).expand(-1, -1, -1, m)
    return torch.cat([part.any(dim=3, keepdim=True) for part in torch.split(per_row, _TILE, 3)], 3)

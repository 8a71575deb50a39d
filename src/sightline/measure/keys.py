"""A choice of keys, and the weight that lies on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.common.check import check_device, check_integers, fits, integer, integers_tensor
from sightline.matrix import AttentionMatrix
from sightline.measure.rows import visible

Keys = int | slice | Sequence[int] | Tensor

# Up to so many keys are read one by one, linear in N; more of them by a pass over the matrix.
_FEW = 16


def chosen(matrix: AttentionMatrix, keys: Keys, name: str = "keys") -> Tensor:
    """The chosen keys as bool [1|B,M].

    Args:
        keys: an integer k for the first k keys that any query of the batch entry may see (behind left
            padding, that is), a slice, positions [K] or [B,K] (negative ones count from the end), or a
            bool tensor [M] or [B,M].

    Raises:
        TypeError: for other kinds; ValueError: for positions out of range or another shape.
    """
    b, _, _, m = matrix.sizes
    place = torch.arange(m, device=matrix.device)
    if isinstance(keys, slice):
        return _of_slice(keys, place, name)
    if not isinstance(keys, Sequence) and not getattr(keys, "ndim", 0):
        keys = integer(name, keys, 0, remedy="It counts first keys; positions go in a list.")
        start = _first_visible(matrix)[:, None]
        return (place >= start) & (place < start + min(keys, m))
    positions = (
        keys if isinstance(keys, Tensor) else integers_tensor(name, keys, "[K] or [B,K]", matrix.device)
    )
    check_device(name, positions, matrix.device)
    if positions.dim() not in (1, 2) or (positions.dim() == 2 and positions.shape[0] not in (1, b)):
        raise ValueError(f"{name}: shape {list(positions.shape)} fits neither [K] nor [B,K] with B={b}.")
    if positions.dtype == torch.bool:
        return fits(name, positions, ("B", "M"), (b, m)).expand(-1, m)
    return _from_positions(positions, m, name)


def chosen_heads(heads: Any, count: int) -> list[int]:
    """The chosen of ``count`` heads, as a list.

    Raises:
        TypeError: for what is no sequence of integers; ValueError: for none, or one that there is not.
    """
    tensor = integers_tensor("heads", heads, "[...]")
    listed: list[int] = [] if tensor.is_meta else tensor.reshape(-1).tolist()
    if not listed or not -count <= min(listed) <= max(listed) < count:
        raise ValueError(f"heads: {listed} do not lie among the H={count} heads (axis H).")
    return listed


def mass(matrix: AttentionMatrix, keys: Tensor) -> Tensor:
    """Σ of the weights on the chosen keys (bool [1|B,M]) of each row: [B,H,N]."""
    if keys.numel() and int(keys.sum(-1).max()) > _FEW:
        return (matrix @ keys[:, None, :, None].to(matrix.lse.dtype))[..., 0]
    total = torch.zeros_like(matrix.lse)
    for key in one_by_one(matrix, keys):
        total = total + at(matrix, key)
    return total


def at(matrix: AttentionMatrix, keys: Tensor) -> Tensor:
    """The weight of one key per row, [B,H,N]; indices [1|B,1,N], -1 for none. Nothing in an empty matrix."""
    return matrix.gather(keys) if matrix.numel() else torch.zeros_like(matrix.lse)


def one_by_one(matrix: AttentionMatrix, keys: Tensor) -> Iterator[Tensor]:
    """The chosen keys (bool [1|B,M]) one after another, as indices [1|B,1,N] for every row; -1 for none."""
    m, n = keys.shape[1], matrix.sizes[2]
    # Chosen positions first, in order; -1 where a batch entry has fewer.
    positions = torch.where(keys, torch.arange(m, device=keys.device), m).sort(-1).values
    positions = positions.masked_fill(positions == m, -1)
    for k in range(int(keys.sum(-1).max()) if keys.numel() else 0):
        yield positions[:, k, None, None].expand(-1, 1, n)


def _of_slice(keys: slice, place: Tensor, name: str) -> Tensor:
    inside = torch.zeros_like(place, dtype=torch.bool)
    try:
        inside[range(len(place))[keys]] = True
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: {keys} is no slice of positions ({error}).") from None
    return inside[None]


def _first_visible(matrix: AttentionMatrix) -> Tensor:
    """[B], the first key that any query may see; M where there is none."""
    b, h, n, m = matrix.sizes
    if not h * n:
        return torch.full((b,), m, device=matrix.device)
    first = visible(matrix).first
    return first.masked_fill(first < 0, m).amin((1, 2))


def _from_positions(positions: Tensor, m: int, name: str) -> Tensor:
    check_integers(name, positions)
    if positions.numel() and not -m <= int(positions.min()) <= int(positions.max()) < m:
        raise ValueError(
            f"{name}: positions from {int(positions.min())} to {int(positions.max())} do not fit M={m} keys "
            "(axis M)."
        )
    rows = (positions if positions.dim() == 2 else positions[None]).long() % max(1, m)
    inside = torch.zeros((rows.shape[0], m), dtype=torch.bool, device=positions.device)
    return inside.scatter_(1, rows, True)

"""Masks as models give them, float or bool, N × M: kept as key ranges wherever they are ranges.

A layer's mask is mostly that of the layer before, so what it came to is remembered for as long as the mask's
memory lives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.positions import key_ranges
from sightline.tracing.scores import HIDDEN
from sightline.tracing.storage import ByStorage, is_plain

#: Key ranges per query that a mask may become.
_RUNS = 4
#: Entries that are looked at together.
_BLOCK = 1 << 22


class LoweredMask(NamedTuple):
    """What a tensor that was added to scores, or that hides some, comes to."""

    ranges: Tensor | None = None
    visible: Tensor | None = None
    bias: Tensor | None = None


_Key = tuple[int, tuple[int, ...], tuple[int, ...], int, bool]
_Reader = Callable[[Tensor, int, int], LoweredMask]


class MaskReader:
    """Reads masks, each once."""

    def __init__(self) -> None:
        self._lowered: ByStorage[dict[_Key, LoweredMask]] = ByStorage(16)
        self._made_of: ByStorage[Tensor] = ByStorage(16)
        self._causal: dict[tuple[int, int, torch.device], Tensor] = {}

    def causal(self, queries: int, keys: int, device: torch.device) -> LoweredMask:
        """A query sees the keys up to its own number, counted from the first key."""
        known = self._causal.get((queries, keys, device))
        if known is None:
            stop = torch.arange(1, queries + 1, device=device, dtype=torch.int32).clamp(max=keys)
            known = torch.stack((torch.zeros_like(stop), stop), -1)[None, None, :, None]
            self._causal = {(queries, keys, device): known}
        return LoweredMask(ranges=known)

    def clear(self) -> None:
        """Forgets every mask."""
        self._causal.clear()
        self._lowered.clear()
        self._made_of.clear()

    def written(self, tensor: Tensor) -> None:
        """A tensor was written in place: what was known about it is void."""
        self._lowered.drop(tensor)
        self._made_of.drop(tensor)

    def remember(self, mask: Tensor, out: Tensor) -> None:
        """``out`` is ``where(mask, 0, -inf)``, as SDPA makes of a bool mask in each call anew."""
        self._made_of.set(out, mask)

    def added(self, tensor: Tensor, queries: int, keys: int) -> LoweredMask:
        """A tensor [1|B,1|H,1|N,1|M] that is added to the scores: a mask if it is 0 and -inf, else a bias."""
        tensor = _once_each(tensor)
        source = self._made_of.get(tensor)
        if source is not None and source.dim() == tensor.dim() and source.shape == tensor.shape:
            return self.visible(source, queries, keys)
        return self._once(tensor, queries, keys, False, _read_added)

    def visible(self, tensor: Tensor, queries: int, keys: int, inverted: bool = False) -> LoweredMask:
        """A bool tensor [1|B,1|H,1|N,1|M], True where a query may look; the other way round if inverted."""
        tensor = _once_each(tensor)
        return self._once(tensor, queries, keys, inverted, _read_hidden if inverted else _read_visible)

    def _once(self, tensor: Tensor, queries: int, keys: int, inverted: bool, read: _Reader) -> LoweredMask:
        if not is_plain(tensor) or (tensor.requires_grad and torch.is_grad_enabled()):
            return read(tensor, queries, keys)
        version = -1 if tensor.is_inference() else tensor._version
        key = (version, tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), inverted)
        known = self._lowered.get(tensor)
        if known is None:
            known = {}
            self._lowered.set(tensor, known)
        if key not in known:
            known[key] = read(tensor, queries, keys)
        return known[key]


def _once_each(tensor: Tensor) -> Tensor:
    """Without the repetitions along axes that were expanded."""
    for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if size > 1 and stride == 0:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor


def _read_added(tensor: Tensor, queries: int, keys: int) -> LoweredMask:
    if not _only_hides(tensor):
        return LoweredMask(bias=tensor)
    return _ranges_or_dense(tensor, queries, keys, lambda part: part > HIDDEN)


def _read_visible(tensor: Tensor, queries: int, keys: int) -> LoweredMask:
    return _ranges_or_dense(tensor, queries, keys, lambda part: part)


def _read_hidden(tensor: Tensor, queries: int, keys: int) -> LoweredMask:
    return _ranges_or_dense(tensor, queries, keys, torch.logical_not)


def _only_hides(tensor: Tensor) -> bool:
    """Whether all entries are 0 or hide."""
    return all(torch.equal(part == 0, ~(part <= HIDDEN)) for part in _row_blocks(tensor))


def _row_blocks(tensor: Tensor) -> list[Tensor]:
    rows = tensor.shape[2]
    step = max(1, _BLOCK * rows // max(1, tensor.numel()))
    return [tensor[:, :, start : start + step] for start in range(0, rows, step)]


def _ranges_or_dense(
    tensor: Tensor, queries: int, keys: int, seen: Callable[[Tensor], Tensor]
) -> LoweredMask:
    """Ranges [1|b,1|h,N,R,2] where every row is a few runs of keys, else a bool tensor."""
    tensor = tensor.detach()
    if tensor.shape[3] != keys:  # a row that is hidden or seen as a whole
        tensor = tensor.expand(*tensor.shape[:3], keys)
    parts = []
    for part in _row_blocks(tensor):
        runs = _runs(seen(part))
        if runs is None:
            return LoweredMask(visible=seen(tensor).clone())
        parts.append(runs)
    most = max(part.shape[3] for part in parts)
    whole = torch.cat([_widened(part, most, keys) for part in parts], dim=2)
    if bool((whole[:, :, :, 0, 0] <= 0).all()) and bool((whole[:, :, :, 0, 1] >= keys).all()):
        return LoweredMask()
    if whole.shape[2] == 1:
        whole = whole.expand(-1, -1, queries, -1, -1)
    return LoweredMask(ranges=whole)


def _runs(seen: Tensor) -> Tensor | None:
    """The runs of True in each row of [b,h,n,M], [b,h,n,R,2] int32; ``None`` where R would pass the limit."""
    b, h, n, keys = seen.shape
    if keys == 0:
        return None
    starts = (seen[..., 1:] > seen[..., :-1]).sum(-1, dtype=torch.int32) + seen[..., 0]
    if bool((starts <= 1).all()):
        low = seen.view(torch.uint8).argmax(-1).int()
        return torch.stack((low, low + seen.sum(-1, dtype=torch.int32)), -1)[..., None, :]
    runs = key_ranges.from_row(seen.reshape(1, b * h * n, keys), _RUNS)
    return None if runs is None else runs.reshape(b, h, n, -1, 2)


def _widened(ranges: Tensor, count: int, keys: int) -> Tensor:
    """With empty ranges added, up to ``count``."""
    missing = count - ranges.shape[3]
    return ranges if not missing else torch.nn.functional.pad(ranges, (0, 0, 0, missing), value=keys)

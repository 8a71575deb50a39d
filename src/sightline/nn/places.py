"""Masks and biases over keys that are no longer next to each other: those that an eviction has left.

They go on speaking of positions in the text; each head's keys are looked up at the positions that they had.

Letters: B batch, H heads, G key/value heads, N queries, M keys that are left, L positions so far.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.biases import Alibi, Bias, LoweredBias, Relative, as_bias
from sightline.masks import Both, Either, Lowered, Mask, Window
from sightline.positions import key_ranges
from sightline.positions.align import positions

_Shape = tuple[int, int, int, int]

#: The place of a row that is padding: after all others.
NOWHERE = 2**40


def mask_at(mask: Mask, places: Tensor, length: int) -> Mask:
    """A mask of [B,H,N,L] for the keys [B,G,M] at these places, ascending in each head."""
    if isinstance(mask, (Both, Either)):
        return type(mask)(mask_at(mask.left, places, length), mask_at(mask.right, places, length))
    return _MaskAt(mask, places, length)


def bias_at(bias: Bias | Tensor, places: Tensor, length: int) -> Bias:
    """A bias of [B,H,N,L] for the keys [B,G,M] at these places."""
    return _BiasAt(as_bias(bias), places, length)


@dataclass(eq=False)
class _MaskAt(Mask):
    """Bands stay one range of keys for each query, as places ascend; other masks are looked up."""

    mask: Mask
    places: Tensor
    length: int

    def visible(self, shape: _Shape, device: torch.device) -> Tensor:
        seen = self.mask.visible((*shape[:3], self.length), device)
        return _looked_up(seen, self.places, shape)

    def lower(self, shape: _Shape, device: torch.device) -> Lowered:
        if not isinstance(self.mask, Window):
            return Lowered(None, self.visible(shape, device))
        b, h, n, m = shape
        band = self.mask
        stands = positions(band.align, b, n, self.length, device).long()
        stands = stands[:, None].expand(b, self.places.shape[1], n).contiguous()
        low, high = torch.zeros_like(stands), torch.full_like(stands, m)
        if band.left is not None:
            low = torch.searchsorted(self.places, stands - band.left)
        if band.right is not None:
            high = torch.searchsorted(self.places, stands + band.right, right=True)
        return Lowered(key_ranges.one(_of_heads(low, h), _of_heads(high, h), m), None)


@dataclass(eq=False)
class _BiasAt(Bias):
    """A number for each query and key that is left: N·M of them in each head."""

    bias: Bias
    places: Tensor
    length: int

    def dense(self, shape: _Shape, device: torch.device) -> Tensor:
        return _looked_up(self.bias.dense((*shape[:3], self.length), device), self.places, shape)

    def lower(self, shape: _Shape, device: torch.device) -> LoweredBias:
        whole = (*shape[:3], self.length)
        lowered = self.bias.lower(whole, device)
        if isinstance(self.bias, (Alibi, Relative)):
            stands = positions(self.bias.align, shape[0], shape[2], self.length, device)
            steps = _of_heads(self.places, shape[1])[:, :, None] - stands[:, None, :, None]
            return LoweredBias(bias=_by_distance(lowered, steps))
        if lowered.bias is None:
            return LoweredBias(bias=self.dense(shape, device).float())
        return LoweredBias(bias=_looked_up(lowered.bias, self.places, shape))


def _by_distance(lowered: LoweredBias, steps: Tensor) -> Tensor:
    """What a bias by distance says of these steps [B,H,N,M] from queries to keys."""
    if lowered.slopes is not None:
        slopes = lowered.slopes.to(torch.promote_types(lowered.slopes.dtype, torch.float32))
        return -slopes[..., None, None] * steps.clamp(max=NOWHERE // 2).abs()
    assert lowered.table is not None
    radius = lowered.table.shape[1] // 2
    table = lowered.table[None, :, None].expand(steps.shape[0], steps.shape[1], steps.shape[2], -1)
    return table.gather(3, steps.clamp(-radius, radius) + radius)


def _looked_up(dense: Tensor, places: Tensor, shape: _Shape) -> Tensor:
    """[B,H,N,L], or what broadcasts to it, at the places: [B,H,N,M]."""
    dense = dense[(None,) * (4 - dense.dim())]
    if dense.shape[3] == 1:
        return dense
    index = _of_heads(places, shape[1])[:, :, None].expand(shape).clamp(max=dense.shape[3] - 1)
    return dense.expand(*shape[:3], dense.shape[3]).gather(3, index)


def _of_heads(of_groups: Tensor, heads: int) -> Tensor:
    """[B,G,...] for every query head: [B,H,...]."""
    return of_groups.repeat_interleave(heads // of_groups.shape[1], 1)

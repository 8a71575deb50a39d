"""Padding on the right, described by lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.common.check import integers_tensor, is_eager
from sightline.masks import Mask, as_mask
from sightline.masks import lengths as lengths_mask


def as_lengths(name: str, lengths: Tensor | Sequence[int] | None, x: Tensor) -> Tensor | None:
    """How much of each entry of x [B,N,...] counts, as a tensor [B] where x lies.

    Raises:
        TypeError: for lengths that are no integers; ValueError: for another shape, or numbers that do not lie
            between 0 and N.
    """
    if lengths is None:
        return None
    tensor = integers_tensor(name, lengths, device=x.device)
    if tensor.is_meta and not x.is_meta:
        raise ValueError(f"{name}: on meta, where there are no numbers. Give them on {x.device}.")
    tensor = tensor.to(x.device)
    if tensor.dim() != 1:
        raise ValueError(f"{name}: expected [B] integers, got shape {list(tensor.shape)}.")
    if tensor.shape[0] != x.shape[0]:
        raise ValueError(f"{name}: {tensor.shape[0]} numbers for a batch of B={x.shape[0]} (axis B).")
    if is_eager(tensor) and tensor.numel():
        given = tensor.tolist()
        if min(given) < 0 or max(given) > x.shape[1]:
            raise ValueError(f"{name}: must lie between 0 and N={x.shape[1]} (axis N), got {given}.")
    return tensor


def padding_mask(lengths: Tensor | None, mask: Mask | Tensor | None = None) -> Mask | Tensor | None:
    """What may be looked at under padding on the right, and under another mask besides."""
    if lengths is None:
        return mask
    own = lengths_mask(lengths)
    return own if mask is None else own & as_mask(mask)


def inside(x: Tensor, lengths: Tensor | None) -> Tensor | None:
    """[B,N], True where a position of x [B,N,C] is not padding; ``None`` where nothing is."""
    if lengths is None:
        return None
    return torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]


def without_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x [B,N,C] with zeros where there is padding."""
    own = inside(x, lengths)
    return x if own is None else x.masked_fill(~own[..., None], 0)


def last_rows(x: Tensor, lengths: Tensor | None) -> Tensor:
    """The last row of each entry that is not padding: [B,N,C] → [B,C]."""
    if lengths is None:
        return x[:, -1]
    return x[torch.arange(x.shape[0], device=x.device), lengths - 1]


def mean_rows(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The mean of each entry's own rows: [B,N,C] → [B,C]; 0 for an entry of length 0."""
    if lengths is None:
        return x.mean(1)
    return without_padding(x, lengths).sum(1) / lengths.to(x)[:, None].clamp(min=1)

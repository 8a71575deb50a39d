"""Padding on the right, described by lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.masks import Mask, as_mask
from sightline.masks import lengths as lengths_mask


def as_lengths(name: str, lengths: Tensor | Sequence[int] | None, device: torch.device) -> Tensor | None:
    """[B] lengths as a tensor.

    Raises:
        ValueError: for another shape, or numbers that are not integers.
    """
    if lengths is None:
        return None
    tensor = torch.as_tensor(lengths, device=device)
    if tensor.dim() != 1 or tensor.is_floating_point():
        raise ValueError(f"{name}: expected [B] integers, got {tensor.dtype} of shape {list(tensor.shape)}.")
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

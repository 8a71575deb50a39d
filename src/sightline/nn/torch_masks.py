"""The masks of ``torch.nn.MultiheadAttention`` as masks and biases of Sightline."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.common.check import check_strided, is_eager, kind
from sightline.masks import Mask, as_mask, causal, ranges


def torch_masks(
    key_padding_mask: Tensor | None,
    attn_mask: Tensor | None,
    is_causal: bool,
    shape: tuple[int, int, int, int],
    added: int,
) -> tuple[Mask | None, Tensor | None]:
    """What may be looked at, and what is added to the scores.

    Args:
        key_padding_mask: [B,M] or [M]: bool, True = may not look there, or floats that are added.
        attn_mask: [N,M] or [B·H,N,M], likewise; not read where ``is_causal``.
        is_causal: each query sees the keys up to its own place, from the top left.
        shape: [B,H,N,M], the added keys included.
        added: how many keys at the end every query may see.

    Raises:
        ValueError: for a mask of another shape; TypeError for one of another dtype.
    """
    b, h, n, m = shape
    keys = m - added
    mask: Mask | None = None
    bias: Tensor | None = None
    given: list[Tensor] = []
    if is_causal:
        mask = causal("top-left")
        mask = mask | ranges(keys, m) if added else mask
    elif attn_mask is not None:
        shapes = {(n, keys): (1, 1, n, keys), (b * h, n, keys): (b, h, n, keys)}
        given.append(_fitted("attn_mask", attn_mask, shapes))
    if key_padding_mask is not None:
        shapes = {(b, keys): (b, 1, 1, keys), (keys,): (1, 1, 1, keys)}
        given.append(_fitted("key_padding_mask", key_padding_mask, shapes))
    for hidden in given:
        if hidden.dtype == torch.bool:
            seen = as_mask(F.pad(~hidden, (0, added), value=True))
            mask = seen if mask is None else mask & seen
        else:
            term = F.pad(hidden, (0, added))
            bias = term if bias is None else bias + term
    return mask, bias


def _fitted(name: str, mask: Tensor, shapes: Mapping[tuple[int, ...], tuple[int, ...]]) -> Tensor:
    """The mask as [B|1,H|1,N|1,M]; bool, True = hidden, where it hides and does nothing else."""
    kind(name, mask, Tensor, "a tensor")
    check_strided(name, mask)
    if tuple(mask.shape) not in shapes:
        wanted = " or ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"{name}: shape {list(mask.shape)} does not fit; expected {wanted}.")
    full = mask.reshape(shapes[tuple(mask.shape)])
    if full.dtype == torch.bool:
        return full
    if not full.is_floating_point():
        raise TypeError(f"{name}: expected bool (True = may not look) or a floating dtype, got {mask.dtype}.")
    hides = full == -torch.inf
    if is_eager(full) and not full.requires_grad and bool((hides | (full == 0)).all()):
        return hides  # keys that are hidden are skipped, keys with -inf added are not
    return full

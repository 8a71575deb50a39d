"""Batches whose entries have different lengths in the cache: what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sightline.biases import Alibi, Bias, Relative
from sightline.masks import Both, Either, Mask, Window
from sightline.nn.kv_cache import KVCache
from sightline.nn.steps import given_integers
from sightline.positions.align import Align


def check_aligned(
    mask: Mask | Tensor | None,
    bias: Bias | Tensor | None,
    cache: KVCache,
    n: int,
    counts: Tensor | Sequence[int] | None,
) -> None:
    """Raises for masks and biases that place query 0 at M − N when it stands elsewhere in some entry.

    Args:
        mask, bias: what the caller gave.
        cache: before the step.
        n: queries.
        counts: [B], how many of them count. Default: all.

    Raises:
        ValueError: saying how to align them.
    """
    start = cache.start
    if counts is None and not isinstance(start, Tensor):
        return
    counts = None if counts is None else torch.tensor(given_integers("lengths", counts))
    m = int((torch.as_tensor(start).cpu() + (n if counts is None else counts)).max())
    if not isinstance(start, Tensor) and start == m - n:
        return
    given = [*_aligns(mask), *([bias.align] if isinstance(bias, (Alibi, Relative)) else [])]
    if any(isinstance(align, str) and align == "bottom-right" for align in given):
        stands = start.tolist() if isinstance(start, Tensor) else start
        raise ValueError(
            f"mask: a mask or bias aligned to the bottom right takes query 0 to stand at M - N = {m - n}, "
            f"but in this cache it stands at {stands}. Align it with align=cache.start, read before the step."
        )


def _aligns(mask: Mask | Tensor | None) -> Iterator[Align]:
    if isinstance(mask, Window):
        yield mask.align
    elif isinstance(mask, (Both, Either)):
        yield from _aligns(mask.left)
        yield from _aligns(mask.right)

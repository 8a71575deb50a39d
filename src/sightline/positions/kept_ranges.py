"""Key ranges that call after call asks for, made once.

A model asks for the same causal ranges in every layer and step, and for a short sequence making them takes as
long as the attention. Only ranges that follow from numbers alone are kept, never from a tensor that could
change; few of them, none long; and only ordinary tensors, which may take part in training and inference.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.common import dispatcher as direct
from sightline.positions import key_ranges

# At most 128 bands of 8,192 rows: 8 MB.
_MOST_ROWS = 8192
_MOST_ENTRIES = 128


def band(left: int | None, right: int | None, first: int, queries: int, keys: int) -> Tensor | None:
    """Keys from ``left`` before to ``right`` after the positions first, first + 1, …: [1,1,N,1,2].

    ``None`` where such ranges are not kept: while somebody traces or transforms, and for many rows.
    """
    if queries > _MOST_ROWS or not direct.is_quiet():
        return None
    return _band(left, right, first, queries, keys)


@functools.lru_cache(_MOST_ENTRIES)
def _band(left: int | None, right: int | None, first: int, queries: int, keys: int) -> Tensor:
    with torch.inference_mode(False):
        position = torch.arange(first, first + queries, device="cpu")[None, None]
        return key_ranges.band(position, left, right, keys)


def until(ends: Sequence[int], queries: int, keys: int) -> Tensor | None:
    """Keys below ``ends[b]`` for all rows of an entry: [B,1,N,1,2]; ``None`` as for :func:`band`."""
    if len(ends) > _MOST_ENTRIES or not direct.is_quiet():
        return None
    return _until(tuple(ends), queries, keys)


@functools.lru_cache(_MOST_ENTRIES)
def _until(ends: tuple[int, ...], queries: int, keys: int) -> Tensor:
    with torch.inference_mode(False):
        pairs = torch.tensor([(0, min(end, keys)) for end in ends], dtype=torch.int32, device="cpu")
        return pairs[:, None, None, None].expand(-1, 1, queries, 1, 2)

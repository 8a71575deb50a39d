"""Which rows of a cache stay: the best by their scores, the last ones, and the first of the text.

Letters: B batch, G key/value heads, M rows, K rows that stay.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.common.check import fits, integer, shown
from sightline.nn.places import NOWHERE


def kept_rows(scores: Any, places: Tensor, filled: list[int], keep: int, recent: int, sinks: int) -> Tensor:
    """[B,G,K] int64, ascending in each head, -1 past an entry's own; see :meth:`KVCache.evict`.

    Args:
        scores: [B,G,M], or what broadcasts to it.
        places: [B,G,M], where each row stands in the text.
        filled: of each entry, how many rows are its own.
    """
    keep, recent, sinks = integer("keep", keep, 1), integer("recent", recent, 0), integer("sinks", sinks, 0)
    if recent + sinks > keep:
        raise ValueError(
            f"keep: {keep} keys are fewer than recent={recent} and sinks={sinks} together. Keep more."
        )
    wanted = _checked(scores, places)
    m = places.shape[2]
    rows = torch.arange(m, device=places.device)
    own = torch.tensor(filled, dtype=torch.int64, device=places.device)[:, None, None]
    always = (places < sinks) | (rows >= own - recent)
    rank = torch.where(places == NOWHERE, 0, torch.where(always, 2, 1))
    best = _best_first(wanted, rank)[:, :, : max(min(keep, at) for at in filled) if filled else 0]
    beyond = torch.arange(best.shape[2], device=best.device) >= own.clamp(max=keep)
    best = best.masked_fill(beyond, m).sort(-1).values
    return best.masked_fill(best == m, -1)


def rows_of_heads(tensor: Tensor, rows: Tensor) -> Tensor:
    """Of a tensor [B,G,M,W] the rows [B,G,K] of each head, whole ones at a time; -1 gives any."""
    b, g, m, width = tensor.shape
    first = torch.arange(b * g, device=rows.device).view(b, g, 1) * m
    flat = (rows.clamp(min=0) + first).flatten()
    return tensor.reshape(b * g * m, width).index_select(0, flat).view(b, g, rows.shape[2], width)


def _best_first(scores: Tensor, rank: Tensor) -> Tensor:
    """Rows by rank, those of one rank by score, those of one score from the last to the first."""
    order = scores.flip(-1).argsort(dim=-1, descending=True, stable=True)
    order = scores.shape[-1] - 1 - order
    ranked = rank.gather(-1, order).argsort(dim=-1, descending=True, stable=True)
    return order.gather(-1, ranked)


def _checked(scores: Any, places: Tensor) -> Tensor:
    """[B,G,M], without NaN where a row is an entry's own."""
    if not isinstance(scores, Tensor):
        raise TypeError(f"scores: expected a tensor [B,G,M], got {shown(scores)}.")
    if not scores.is_floating_point():
        raise TypeError(f"scores: expected a floating dtype, got {scores.dtype}. Use .float().")
    if scores.device != places.device:
        raise ValueError(
            f"scores: on {scores.device}, but the cache is on {places.device}. "
            f"Move them with .to({str(places.device)!r})."
        )
    full = fits("scores", scores, ("B", "G", "M"), places.shape).expand(places.shape)
    if bool((full.isnan() & (places != NOWHERE)).any()):
        raise ValueError("scores: NaN among them (axis M), which is neither better nor worse. Replace it.")
    return full

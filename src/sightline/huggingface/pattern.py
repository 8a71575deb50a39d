"""Derives key ranges from the mask functions of Transformers without calling them N x M times.

Transformers builds its masks from small functions ``f(batch, head, query, key) -> bool``, closures over a
window, a chunk size or packed positions. For each known one the range of keys can be written down; it is then
checked at its edges against the function itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Ranges = tuple[Tensor, Tensor]  # low and high, [1|B, N] int64, half-open, in Transformers' key positions
MaskFunction = Callable[..., Tensor]
_FAR = 1 << 40  # beyond any key


def ranges_of(function: MaskFunction, position: Tensor) -> Ranges | None:
    """The keys that a query at each position sees, or ``None`` where the function is not known.

    Args:
        function: one of ``transformers.masking_utils``.
        position: [1|B, N] int64 query positions.
    """
    rule = _RULES.get(getattr(function, "__qualname__", ""))
    if rule is None or not function.__module__.startswith("transformers."):
        return None
    try:
        return rule(position, **closure_of(function))
    except TypeError:  # the closure has other variables than in the version that the rule was written for
        return None


def edges_agree(
    function: MaskFunction, position: Tensor, bounds: Ranges, kv_offset: int, kv_length: int, batch: int
) -> bool:
    """Whether the function is True just inside each range and False just outside."""
    if kv_length == 0:
        return True
    first, last = kv_offset, kv_offset + kv_length - 1
    low, high = (bound.clamp(first, last + 1) for bound in bounds)
    edges = torch.cat((low - 1, low, high - 1, high), dim=-1)  # outside, inside, inside, outside
    inside = torch.tensor([False, True, True, False], device=edges.device).repeat_interleave(low.shape[-1])
    entry = torch.arange(batch, device=edges.device)[:, None]
    answers = function(entry, torch.zeros_like(entry), position.repeat(1, 4), edges.clamp(first, last))
    exists = (low < high).repeat(1, 4) & (edges >= first) & (edges <= last)  # an empty range has no edges
    return not bool(((answers != inside) & exists).any())


def closure_of(function: MaskFunction) -> dict[str, Any]:
    """The variables that a function was made with, by name."""
    cells = getattr(function, "__closure__", None) or ()
    return {name: cell.cell_contents for name, cell in zip(function.__code__.co_freevars, cells, strict=True)}


def _causal(position: Tensor) -> Ranges:
    return torch.full_like(position, -_FAR), position + 1


def _bidirectional(position: Tensor) -> Ranges:
    return torch.full_like(position, -_FAR), torch.full_like(position, _FAR)


def _window(position: Tensor, sliding_window: int) -> Ranges:
    return position - sliding_window + 1, torch.full_like(position, _FAR)


def _both_sides(position: Tensor, sliding_window: int) -> Ranges:
    return position - sliding_window, position + sliding_window + 1


def _chunk(position: Tensor, chunk_size: int, left_padding: Tensor) -> Ranges:
    start = left_padding[:, None]
    low = start + (position - start) // chunk_size * chunk_size
    return low, low + chunk_size


def _packed(position: Tensor, packed_sequence_mask: Tensor) -> Ranges | None:
    ids = packed_sequence_mask.contiguous()
    if bool((ids.diff(dim=-1) < 0).any()):
        return None
    own = ids.gather(-1, position.expand(ids.shape[0], -1))
    return torch.searchsorted(ids, own), torch.searchsorted(ids, own, right=True)


def _remapped(position: Tensor, mask_function: MaskFunction, position_ids: Tensor) -> Ranges | None:
    """A function of the positions within packed sequences; it holds within the query's own sequence only."""
    inside = position_ids.gather(-1, position.expand(position_ids.shape[0], -1))
    ranges = ranges_of(mask_function, inside)
    if ranges is None:
        return None
    start = position - inside  # where the query's sequence begins
    return ranges[0] + start, ranges[1] + start


def _all_of(position: Tensor, mask_functions: tuple[MaskFunction, ...]) -> Ranges | None:
    names = {getattr(function, "__qualname__", "") for function in mask_functions}
    if _REMAP in names and _PACK not in names:
        return None
    low, high = _bidirectional(position)
    for function in mask_functions:
        part = ranges_of(function, position)
        if part is None:
            return None
        low, high = torch.maximum(low, part[0]), torch.minimum(high, part[1])
    return low, high


_PACK = "packed_sequence_mask_function.<locals>.inner_mask"
_REMAP = "remap_positions_for_packed_sequence.<locals>.inner_mask"
_RULES: dict[str, Callable[..., Ranges | None]] = {
    "causal_mask_function": _causal,
    "bidirectional_mask_function": _bidirectional,
    "sliding_window_overlay.<locals>.inner_mask": _window,
    "sliding_window_bidirectional_overlay.<locals>.inner_mask": _both_sides,
    "chunked_overlay.<locals>.inner_mask": _chunk,
    _PACK: _packed,
    _REMAP: _remapped,
    "and_masks.<locals>.and_mask": _all_of,
}

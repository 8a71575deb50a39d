"""Where query 0 stands among the keys: the one place that turns ``align`` into offsets."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.common.check import check_device, check_integers, integer

Align = str | int | Tensor

#: No text is longer, and positions up to here stay int32 in every sum.
FARTHEST = 2**29


def check_align(name: str, align: Align) -> Align:
    """The align as it is, or a clear error; ``name`` says whose it is."""
    label = f"{name} align".lstrip()
    if isinstance(align, str):
        if align not in ("bottom-right", "top-left"):
            wanted = '"bottom-right", "top-left", an integer offset or a [B] tensor of offsets'
            raise ValueError(f"{name}: align must be {wanted}, got {align!r}.".lstrip(": "))
    elif isinstance(align, Tensor):
        check_integers(label, align)
        if align.dim() != 1:
            raise ValueError(
                f"{label}: a tensor of offsets must be [B], got shape {list(align.shape)}. "
                "A single offset is an integer."
            )
    else:
        # While compiling a number may be a symbol, which a bound would narrow.
        return integer(label, align, *(() if torch.compiler.is_compiling() else (-FARTHEST, FARTHEST)))
    return align


def offsets(align: Align, batch: int, queries: int, keys: int, device: torch.device) -> Tensor:
    """The position of query 0 for each batch entry: [1] or [B] int64."""
    if isinstance(align, Tensor):
        check_align("", align)
        check_device("align", align, device)
        if align.shape[0] not in (1, batch):
            raise ValueError(
                f"align: {align.shape[0]} offsets do not fit the batch B={batch} (axis B). Give [B] offsets."
            )
        return align.long()
    return torch.full((1,), first_position(align, queries, keys), dtype=torch.int64, device=device)


def positions(align: Align, batch: int, queries: int, keys: int, device: torch.device) -> Tensor:
    """The positions of all queries for each batch entry: [1,N] or [B,N]."""
    if isinstance(align, Tensor):
        return torch.arange(queries, device=device) + offsets(align, batch, queries, keys, device)[:, None]
    first = first_position(align, queries, keys)
    return torch.arange(first, first + queries, dtype=torch.int32, device=device)[None]


def first_position(align: str | int, queries: int, keys: int) -> int:
    """The position of query 0."""
    if align == "bottom-right":
        return keys - queries
    if align == "top-left":
        return 0
    if type(align) is int and (torch.compiler.is_compiling() or -FARTHEST <= align <= FARTHEST):
        return align
    return check_align("", align)  # type: ignore[return-value]

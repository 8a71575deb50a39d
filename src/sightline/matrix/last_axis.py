"""PyTorch's way of asking for the largest entries of the last axis, answered by a readout of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sightline.backends import Values


def along_axis(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, bool | None]:
    """``dim`` and ``keepdim`` as PyTorch reads them; ``None`` for the second where there is more."""
    left = dict(kwargs)
    rest = list(args)
    dim = rest.pop(0) if rest else left.pop("dim", left.pop("axis", None))
    keepdim = rest.pop(0) if rest else left.pop("keepdim", False)
    return dim, keepdim if isinstance(keepdim, bool) and not rest and not left else None


def is_last(dim: Any, axes: int) -> bool:
    """Whether this is the number of the last axis."""
    return type(dim) is int and dim in (-1, axes - 1)


def exact(dtype: torch.dtype) -> bool:
    """Whether weights of this dtype differ wherever readouts do, which are float32 or better."""
    return dtype in (torch.float32, torch.float64)


def as_max(found: Values, keepdim: bool, dtype: torch.dtype) -> Any:
    """What ``torch.max`` returns along the last axis: the first place where the largest value stands."""
    values = found.values.to(dtype)
    indices = found.indices.long().masked_fill(values == 0, 0)  # of nothing but zeros, the first
    if keepdim:
        values, indices = values.unsqueeze(-1), indices.unsqueeze(-1)
    return torch.return_types.max((values, indices))

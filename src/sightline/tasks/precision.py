"""Whether it pays to compute in bfloat16 on this machine."""

from __future__ import annotations

import time

import torch

from sightline.products import linear
from sightline.tasks.recipe import Recipe

_SIZE = 256
_TIMES = 3
_MUCH = 1.25


def notices_of_precision(recipe: Recipe) -> list[str]:
    """Notices about ``recipe.precision``: that this CPU is slower in it than in float32."""
    if recipe.precision != "bfloat16":
        return []
    ratio = _seconds(torch.bfloat16) / _seconds(torch.float32)
    if ratio < _MUCH:
        return []
    return [
        f"precision=bfloat16: linear layers take this CPU {ratio:.1f} times as long in bfloat16 as in "
        f"float32; --set precision=float32 is quicker here"
    ]


def _seconds(dtype: torch.dtype) -> float:
    """The CPU time of a linear layer's product, the minimum of a few runs."""
    rows = weights = torch.ones(_SIZE, _SIZE, dtype=dtype)
    linear(rows, weights)  # measures which way is fastest, the first time
    seconds = []
    for _ in range(_TIMES):
        start = time.process_time()
        linear(rows, weights)
        seconds.append(time.process_time() - start)
    return max(min(seconds), 1e-9)

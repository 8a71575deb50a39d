"""What key ranges are in the words of other kernels: everything, causal, or a window."""

from __future__ import annotations

from typing import NamedTuple

import torch

from sightline.backends.problem import Problem


class Pattern(NamedTuple):
    """Query i sees keys i + M - N - left to i + M - N + right: counted from the bottom right, as flash does.

    Attributes:
        left, right: ``None`` for an open side.
    """

    left: int | None = None
    right: int | None = None

    @property
    def is_causal(self) -> bool:
        """Whether a query sees all keys up to its own, and no later one."""
        return self.left is None and self.right == 0

    def __str__(self) -> str:
        if self == Pattern():
            return "full"
        return "causal" if self.is_causal else f"window({self.left}, {self.right})"


def pattern_of(problem: Problem) -> Pattern | None:
    """The pattern of a problem's ranges; ``None`` for others, and where a query sees no key.

    Looks at the ranges, so the GPU is waited for.
    """
    n, m = problem.shape[2:]
    if problem.visible is not None or not n or not m:
        return None
    if problem.ranges is None:
        return Pattern()
    if problem.ranges.shape[0] != 1 or problem.ranges.shape[1] != 1 or problem.ranges.shape[3] != 1:
        return None
    low, high = problem.ranges[0, 0, :, 0].expand(n, 2).unbind(-1)
    last_low, first_high = torch.stack((low[-1], high[0])).tolist()
    offset = m - n
    left = None if last_low <= 0 else n - 1 + offset - last_low
    right = None if first_high >= m else first_high - offset - 1
    if (left is not None and left < 0) or (right is not None and right < 0) or offset < 0:
        return None  # some query sees nothing, which kernels answer in their own ways
    position = torch.arange(n, device=low.device) + offset
    wanted_low = torch.zeros_like(position) if left is None else (position - left).clamp(0, m)
    wanted_high = torch.full_like(position, m) if right is None else (position + right + 1).clamp(0, m)
    same = (low == wanted_low).all() & (high == wanted_high).all()
    return Pattern(left, right) if bool(same) else None

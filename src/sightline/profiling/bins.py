"""Histograms with fixed bins, from which quantiles are read: the same in every process, so they add up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 128


@dataclass(frozen=True)
class Scale:
    """How a measure's numbers are put into ``BINS`` bins; numbers beyond an end go into its last bin.

    Attributes:
        low, high: the ends, in the measure's unit.
        log: whether bins are equally wide in ln(1 + x) instead of x; for numbers from 0.
    """

    low: float
    high: float
    log: bool = False

    @property
    def ends(self) -> tuple[float, float]:
        """The ends, in x or ln(1 + x)."""
        return (math.log1p(self.low), math.log1p(self.high)) if self.log else (self.low, self.high)

    def edge(self, place: float) -> float:
        """The number at a place from 0 to ``BINS``."""
        low, high = self.ends
        at = low + (high - low) * place / BINS
        return math.expm1(at) if self.log else at


SHARE = Scale(0.0, 1.0)
NATS = Scale(0.0, 12.8)
LOGITS = Scale(-64.0, 64.0)
POSITIONS = Scale(0.0, math.expm1(16.0), log=True)


class Binning:
    """The bins of many columns at once, each with a scale of its own."""

    def __init__(self) -> None:
        self._low, self._per_unit, self._log = torch.empty(0), torch.empty(0), torch.empty(0).bool()

    def extend(self, scale: Scale, count: int) -> None:
        """Adds ``count`` columns with this scale."""
        low, high = scale.ends
        self._low = torch.cat((self._low, torch.full((count,), low)))
        self._per_unit = torch.cat((self._per_unit, torch.full((count,), BINS / (high - low))))
        self._log = torch.cat((self._log, torch.full((count,), scale.log)))

    def of(self, values: Tensor, places: Tensor) -> Tensor:
        """The bin of each number in ``values`` [B,t], whose columns are those at ``places`` [t]."""
        at = torch.where(self._log[places], values.clamp(min=0).log1p(), values)
        return ((at - self._low[places]) * self._per_unit[places]).long().clamp(0, BINS - 1)


def quantile(counts: Sequence[int], share: float, scale: Scale, low: float, high: float) -> float:
    """The number below which ``share`` of a histogram lies, between its least and its largest number.

    Numbers count as evenly spread within a bin: the result is right to a bin's width.
    """
    wanted, below = share * sum(counts), 0.0
    for place, count in enumerate(counts):
        if count and below + count >= wanted:
            inside = max(0.0, wanted - below) / count
            # A bin that reaches beyond the extremes ends at them.
            first, last = max(low, scale.edge(place)), min(high, scale.edge(place + 1))
            return min(high, max(low, first + (last - first) * inside))
        below += count
    return high

"""What has been counted: for each layer, head and measure a few numbers, however many documents there are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.profiling.bins import BINS, Binning, quantile
from sightline.profiling.exact import ExactSums
from sightline.profiling.statistics import STATISTICS

QUANTILES = (0.1, 0.5, 0.9)


class CallKey(NamedTuple):
    """Identifies an attention call of the model, the same way in every document.

    Attributes:
        place: the module's place among the model's modules.
        layer: the module's qualified name.
        kind: "self" or "cross".
        turn: which call of this module it is, from 0; above 0 only where layers share a module.
    """

    place: int
    layer: str
    kind: str
    turn: int


class MeasureKey(NamedTuple):
    """Identifies a measure of a call; it has a number for each head."""

    call: CallKey
    measure: str


@dataclass(frozen=True)
class Summed:
    """One head's numbers over all documents; NaN where no document has any."""

    count: int
    mean: float
    std: float
    min: float
    max: float
    p10: float
    median: float
    p90: float


class Tally:
    """Counts, exact sums and sums of squares, extremes and histograms of one number for each document.

    Numbers are rounded to float32 on arrival, so that their squares are exact in float64. The result is the
    same to the last bit in any order, and however many tallies were added up.
    """

    def __init__(self) -> None:
        self._slices: dict[MeasureKey, slice] = {}
        self._binning = Binning()
        self._sums, self._squares = ExactSums(), ExactSums()
        self._count = torch.zeros(0, dtype=torch.int64)
        self._low, self._high = (torch.zeros(0, dtype=torch.float64) for _ in range(2))
        self._histogram = torch.zeros((0, BINS), dtype=torch.int64)
        self._latest: tuple[tuple[MeasureKey, ...], Tensor] = ((), torch.zeros(0, dtype=torch.int64))

    def add(self, numbers: Mapping[MeasureKey, Tensor]) -> None:
        """Adds a batch of documents: [B,H] for each measure. What is not finite counts as absent."""
        if not numbers:
            return
        places = self._places(numbers)
        values = torch.cat([one.float() for one in numbers.values()], dim=1).double()
        there = values.isfinite()
        values = values.masked_fill(~there, 0.0)
        self._count.index_add_(0, places, there.sum(0))
        self._sums.add(values, places)
        self._squares.add(values.square(), places)
        least = torch.where(there, values, math.inf).amin(0)
        most = torch.where(there, values, -math.inf).amax(0)
        self._low[places] = torch.minimum(self._low[places], least)
        self._high[places] = torch.maximum(self._high[places], most)
        bins = (places * BINS + self._binning.of(values, places)).flatten()
        self._histogram.view(-1).scatter_add_(0, bins, there.long().flatten())

    def _places(self, numbers: Mapping[MeasureKey, Tensor]) -> Tensor:
        """The place of each head of each measure; those of the latest batch are usually the same."""
        keys = tuple(numbers)
        if keys != self._latest[0]:
            slices = [self._slice(key, values.shape[1]) for key, values in numbers.items()]
            self._latest = keys, torch.cat([torch.arange(one.start, one.stop) for one in slices])
        return self._latest[1]

    def _slice(self, key: MeasureKey, heads: int) -> slice:
        """Where a measure's heads lie; those of a new one get a place."""
        place = self._slices.get(key)
        if place is None:
            place = self._slices[key] = slice(len(self._sums), len(self._sums) + heads)
            self._sums.extend(heads)
            self._squares.extend(heads)
            self._binning.extend(STATISTICS[key.measure].scale, heads)
            self._count = torch.cat((self._count, self._count.new_zeros(heads)))
            self._low = torch.cat((self._low, self._low.new_full((heads,), math.inf)))
            self._high = torch.cat((self._high, self._high.new_full((heads,), -math.inf)))
            self._histogram = torch.cat((self._histogram, self._histogram.new_zeros((heads, BINS))))
        elif place.stop - place.start != heads:
            raise ValueError(f"{key.call.layer}: {heads} heads, {place.stop - place.start} before")
        return place

    # --- what it adds up to -------------------------------------------------------------------------

    def summed(self) -> dict[MeasureKey, list[Summed]]:
        """For each measure the heads' numbers: correctly rounded means, deviations from exact variances."""
        sums, squares = self._sums.fractions(), self._squares.fractions()
        counts, histogram = self._count.tolist(), self._histogram.tolist()
        low, high = self._low.tolist(), self._high.tolist()
        return {
            key: [
                _summed(counts[k], sums[k], squares[k], low[k], high[k], histogram[k], key.measure)
                for k in range(place.start, place.stop)
            ]
            for key, place in self._slices.items()
        }

    # --- as JSON, and together ----------------------------------------------------------------------

    def to_json(self) -> list[Any]:
        """Everything, as lists and strings; sums as whole numbers in hexadecimal."""
        sums, squares = self._sums.wholes(), self._squares.wholes()
        low, high = self._low.tolist(), self._high.tolist()
        return [
            [
                [*key.call, key.measure],
                self._count[place].tolist(),
                [f"{whole:x}" for whole in sums[place]],
                [f"{whole:x}" for whole in squares[place]],
                [value.hex() for value in low[place]],
                [value.hex() for value in high[place]],
                [[[b, n] for b, n in enumerate(row) if n] for row in self._histogram[place].tolist()],
            ]
            for key, place in self._slices.items()
        ]

    def add_json(self, tally: list[Any]) -> None:
        """Adds another tally, as its ``to_json`` returned it.

        Raises:
            ValueError, TypeError, KeyError: for anything else.
        """
        for (*call, measure), counts, sums, squares, low, high, histogram in tally:
            place = self._slice(MeasureKey(CallKey(*call), measure), len(counts))
            places = list(range(place.start, place.stop))
            self._count[place] += torch.tensor(counts)
            self._sums.add_wholes([int(text, 16) for text in sums], places)
            self._squares.add_wholes([int(text, 16) for text in squares], places)
            self._low[place] = torch.minimum(self._low[place], _floats(low))
            self._high[place] = torch.maximum(self._high[place], _floats(high))
            for row, pairs in zip(places, histogram, strict=True):
                for b, n in pairs:
                    self._histogram[row, b] += n


def _floats(texts: list[str]) -> Tensor:
    return torch.tensor([float.fromhex(text) for text in texts], dtype=torch.float64)


def _summed(
    count: int, total: Fraction, squares: Fraction, low: float, high: float, bins: list[int], measure: str
) -> Summed:
    if not count:
        return Summed(0, *(math.nan,) * (4 + len(QUANTILES)))
    variance = (squares - total * total / count) / (count - 1) if count > 1 else None
    scale = STATISTICS[measure].scale
    return Summed(
        count,
        float(total / count),
        math.nan if variance is None else math.sqrt(variance),
        low,
        high,
        *(quantile(bins, share, scale, low, high) for share in QUANTILES),
    )

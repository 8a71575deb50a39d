"""Timing on a machine that others use too: contenders in turn, ratios within a round."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Spent(NamedTuple):
    """Seconds of one call: of all threads of the process together, and on the clock."""

    cpu: float
    wall: float


Timed = Callable[[int], Spent]
"""Runs a contender so many times and tells what one call took."""


def clock(call: Callable[[], object], number: int) -> Spent:
    """CPU time counts helper threads as well: a contender gains nothing by having some.

    A call that is repeated runs once before: what a short one would otherwise show is how far the contenders
    before it have emptied the caches.
    """
    if number > 1:
        call()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(number):
        call()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Spent(cpu / number, wall / number)


@dataclass(frozen=True)
class Budget:
    """How long a case may take: rounds are added until ``seconds`` are spent."""

    seconds: float
    least: int = 3
    most: int = 40
    sample: float = 20e-3  # a sample of a short call repeats it for so long


@dataclass(frozen=True)
class Samples:
    """One entry a round; rounds line up between contenders."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the interquartile range, as a share of the median."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / 2 / self.median if self.median else 0.0

    def over(self, other: Samples) -> float:
        """How many times as long the other one takes: the median of the ratios round by round."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))


def take_turns(contenders: Mapping[str, Timed], budget: Budget, wall: bool = False) -> dict[str, Samples]:
    """Runs the contenders in turn, A B C A B C …: a slow spell of the machine hits all of them.

    Each has run once before, so that nothing is compiled or allocated here. Time of the clock if ``wall``,
    otherwise CPU time.
    """
    numbers = {name: _repeats(timed(2).wall, budget) for name, timed in contenders.items()}
    found: dict[str, list[float]] = {name: [] for name in contenders}
    begin = time.perf_counter()
    for turn in range(budget.most):
        if turn >= budget.least and time.perf_counter() - begin > budget.seconds:
            break
        for name, timed in contenders.items():
            spent = timed(numbers[name])
            found[name].append(spent.wall if wall else spent.cpu)
    return {name: Samples(seconds) for name, seconds in found.items()}


def _repeats(seconds: float, budget: Budget) -> int:
    return max(1, math.ceil(budget.sample / max(seconds, 1e-7)))

"""Timing on a shared machine: contenders take turns, ratios are taken within a round."""

from __future__ import annotations

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Spent(NamedTuple):
    """Seconds of one call: CPU time of all threads of the process together, and wall time."""

    cpu: float
    wall: float


Timed = Callable[[int], Spent]
"""Runs a contender a number of times and returns what one call took."""


def clock(call: Callable[[], object], number: int) -> Spent:
    """The time of a call, the mean of ``number`` calls. CPU time includes helper threads: they gain nothing.

    A call that is repeated runs once before: otherwise a short one would show mostly how far the contenders
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
    """How long a case may take.

    Attributes:
        seconds: rounds are added until this time is spent.
        least, most: how many rounds there are.
        sample: a short call is repeated within a round for this many seconds.
    """

    seconds: float
    least: int = 3
    most: int = 40
    sample: float = 20e-3


@dataclass(frozen=True)
class Samples:
    """One entry per round; the k-th entries of all contenders belong to the same round."""

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
        """How many times as long the other one takes: the median of the rounds' ratios."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))


def take_turns(contenders: Mapping[str, Timed], budget: Budget, wall: bool = False) -> dict[str, Samples]:
    """Runs the contenders in turn, A B C B A C …: a slow spell of the machine affects all of them.

    The order is drawn for each round, the same in every run: who always followed a process that had computed
    for long, while its own waited, would be up to a tenth slower. Each has run once before, so that nothing
    is compiled or allocated here.

    Args:
        contenders: by name.
        budget: how long.
        wall: measure wall time instead of CPU time.
    """
    numbers = {name: _repeats(timed(2).wall, budget) for name, timed in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    begin = time.perf_counter()
    for turn in range(budget.most):
        if turn >= budget.least and time.perf_counter() - begin > budget.seconds:
            break
        order = list(contenders)
        random.Random(turn).shuffle(order)  # nosec B311
        for name in order:
            spent = contenders[name](numbers[name])
            seconds[name].append(spent.wall if wall else spent.cpu)
    return {name: Samples(rounds) for name, rounds in seconds.items()}


def _repeats(seconds: float, budget: Budget) -> int:
    return max(1, math.ceil(budget.sample / max(seconds, 1e-7)))

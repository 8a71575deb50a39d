"""Timing on a machine that others use too: CPU time, contenders in turn, ratios pair by pair."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Contender = Callable[[], object]


@dataclass(frozen=True)
class Samples:
    """CPU seconds of one contender, one entry a round; rounds line up between contenders."""

    seconds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the interquartile range, as a share of the median."""
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / self.median

    def over(self, other: Samples) -> float:
        """How many times as long the other one takes: the median of the ratios round by round."""
        return statistics.median(b / a for a, b in zip(self.seconds, other.seconds, strict=True))


def take_turns(contenders: Mapping[str, Contender], rounds: int, budget: float) -> dict[str, Samples]:
    """Runs the contenders in turn, A B C A B C …, after one warm-up each.

    A slow spell of the machine then hits all of them, and ratios within a round stay fair.

    Args:
        rounds: at most.
        budget: seconds of wall time after which no new round starts; three rounds are always run.
    """
    for contender in contenders.values():
        contender()
    found: dict[str, list[float]] = {name: [] for name in contenders}
    begin = time.perf_counter()
    for turn in range(rounds):
        if turn >= 3 and time.perf_counter() - begin > budget:
            break
        for name, contender in contenders.items():
            start = time.thread_time()
            contender()
            found[name].append(time.thread_time() - start)
    return {name: Samples(seconds) for name, seconds in found.items()}

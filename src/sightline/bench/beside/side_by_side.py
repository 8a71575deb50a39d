"""Both sides, seed after seed, and how they compare."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sightline.bench.beside.process import JobRunner
from sightline.bench.beside.side import SIDES, SideJob
from sightline.bench.text_table import ABSENT, TextTable
from sightline.common.errors import CommandError
from sightline.tasks.recipe import Recipe
from sightline.tasks.task import Source

FORMAT = 1
Side = dict[str, Any]
"""The result of :func:`sightline.bench.beside.side.run_side`."""
_SAME = 1e-3  # of the first loss: two orders of summation differ by less, two architectures by more


class SideBySide:
    """Runs of both sides.

    Args:
        task, source, recipe: as for :func:`sightline.tasks.fit`; the recipe's seed is the first.
        threads: of PyTorch.
        runner: runs a job.
        progress: called with a line before each job.
        done: called after each seed.
    """

    def __init__(
        self,
        task: str,
        source: Source,
        recipe: Recipe,
        threads: int,
        runner: JobRunner,
        progress: Callable[[str], None] = lambda line: None,
        done: Callable[[SideBySide], None] = lambda comparison: None,
    ) -> None:
        self.task, self.source, self.recipe, self.threads = task, source, recipe, threads
        self.runs: list[dict[str, Any]] = []
        self._runner, self._progress, self._done = runner, progress, done

    def run(self, seeds: int) -> None:
        """Runs both sides for a number of seeds; who begins alternates.

        Raises:
            CommandError: as :func:`run_side`, and where the sides do not start as the same function.
        """
        for number in range(seeds):
            recipe = replace(self.recipe, seed=self.recipe.seed + number)
            order = SIDES if number % 2 == 0 else SIDES[::-1]
            results = {}
            for side in order:
                self._progress(f"seed {recipe.seed} ({number + 1} of {seeds}), {side}")
                with tempfile.TemporaryDirectory() as folder:
                    job = SideJob(self.task, self.source, recipe, self.threads, side, Path(folder))
                    results[side] = self._runner(job)
            check_same_start(self.task, *(results[side]["start"] for side in SIDES))
            self.runs.append({"seed": recipe.seed, "order": list(order), **results})
            self._done(self)

    @property
    def notes(self) -> list[str]:
        """What was changed so that both sides could have it; each change once."""
        return list(dict.fromkeys(note for run in self.runs for note in run[SIDES[0]]["notes"]))

    def summary(self) -> dict[str, dict[str, float | None]]:
        """By figure: both means, and the mean difference with its standard error, or the median ratio.

        The standard error is that of the differences within a seed; with a single seed there is none. A ratio
        is torch.nn's over Sightline's.
        """
        figures: dict[str, dict[str, float]] = self.runs[0][SIDES[0]]["figures"]
        reached = {
            f"{part} {name}": _difference(self._pairs(partial(_figure, part=part, name=name)))
            for part, names in figures.items()
            for name in names
        }
        return reached | {name: _ratio(self._pairs(rate)) for name, rate in self._rates().items()}

    def _rates(self) -> dict[str, Callable[[Side], float]]:
        """What is read off a side, by name, and compared as a ratio."""
        clock = "cpu_seconds" if self.threads == 1 else "wall_seconds"
        rates: dict[str, Callable[[Side], float]] = {
            "milliseconds a step": lambda side: 1e3 * side[clock] / side["steps"],
            "examples a second": lambda side: side["examples"] / side[clock],
            "seconds of training": lambda side: side[clock],
        }
        sides = [run[side] for run in self.runs for side in SIDES]
        if all(side["tokens"] for side in sides):  # images have none
            rates["tokens a second"] = lambda side: side["tokens"] / side[clock]
        if all(side["peak_mb"] for side in sides):
            rates["peak memory, MB"] = lambda side: side["peak_mb"]
        return rates

    def as_dict(self) -> dict[str, Any]:
        """Everything, as values that JSON can hold."""
        return {
            "format": FORMAT, "task": self.task, "data": self.source.data.name, "threads": self.threads,
            "recipe": self.recipe.to_dict(), "notes": self.notes, "runs": self.runs,
            "summary": self.summary(),
        }  # fmt: skip

    def _pairs(self, read: Callable[[Side], float]) -> list[tuple[float, float]]:
        return [(read(run[SIDES[0]]), read(run[SIDES[1]])) for run in self.runs]

    def table(self) -> TextTable:
        """The summary as a table."""
        rows = []
        for name, each in self.summary().items():
            digits = 4 if "difference" in each else 1
            ours, theirs = (f"{each[side]:.{digits}f}" for side in SIDES)
            rows.append([name, ours, theirs, _compared(each)])
        seeds = ", ".join(str(run["seed"]) for run in self.runs)
        clock = "CPU time" if self.threads == 1 else "wall time"
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        note = f"Seeds {seeds}; {threads}, {clock} of the training steps alone."
        return TextTable(
            f"{self.task}: Sightline beside torch.nn", " ".join([note, *(f"{n}." for n in self.notes)]),
            ["", "Sightline", "torch.nn", "difference, or × as much"], [False, True, True, True], rows,
        )  # fmt: skip


def check_same_start(task: str, ours: float, theirs: float) -> None:
    """Raises unless the first losses of the two models agree.

    Raises:
        CommandError: if they differ.
    """
    if abs(ours - theirs) > _SAME * max(1.0, abs(ours)):
        raise CommandError(
            f"{task}: the first loss is {ours:.6f} with Sightline and {theirs:.6f} with torch.nn; they are "
            f"not the same function"
        )


def _figure(side: Side, part: str, name: str) -> float:
    return float(side["figures"][part][name])


def _difference(pairs: list[tuple[float, float]]) -> dict[str, float | None]:
    gaps = [ours - theirs for ours, theirs in pairs]
    error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else None
    return _means(pairs) | {"difference": statistics.mean(gaps), "standard_error": error}


def _ratio(pairs: list[tuple[float, float]]) -> dict[str, float | None]:
    return _means(pairs) | {"ratio": statistics.median(theirs / ours for ours, theirs in pairs)}


def _means(pairs: list[tuple[float, float]]) -> dict[str, float | None]:
    return {side: statistics.mean(pair[at] for pair in pairs) for at, side in enumerate(SIDES)}


def _compared(each: dict[str, float | None]) -> str:
    if "ratio" in each:
        return f"× {each['ratio']:.2f}"
    error = each["standard_error"]
    return f"{each['difference']:+.4f} ± {ABSENT if error is None else f'{error:.4f}'}"

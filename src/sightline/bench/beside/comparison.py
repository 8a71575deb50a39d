"""Both sides, seed after seed, and what came of it."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.bench.beside.process import Runner
from sightline.bench.beside.side import SIDES, Job
from sightline.bench.grid import ABSENT, Grid
from sightline.common.errors import CommandError
from sightline.tasks.recipe import Recipe
from sightline.tasks.task import Source

FORMAT = 1
_SAME = 1e-3  # of the first loss: what two orders of summing may differ by, and no two architectures do


class Comparison:
    """Runs of both sides.

    Args:
        task, source, recipe: as :func:`sightline.tasks.fit` has them; the recipe's seed is the first.
        threads: of PyTorch.
        runner: runs a job.
        told: is given a line before each job.
        done: is called after each seed.
    """

    def __init__(
        self,
        task: str,
        source: Source,
        recipe: Recipe,
        threads: int,
        runner: Runner,
        told: Callable[[str], None] = lambda line: None,
        done: Callable[[Comparison], None] = lambda comparison: None,
    ) -> None:
        self.task, self.source, self.recipe, self.threads = task, source, recipe, threads
        self.runs: list[dict[str, Any]] = []
        self._runner, self._told, self._done = runner, told, done

    def run(self, seeds: int) -> None:
        """Both sides for so many seeds; who begins changes from seed to seed.

        Raises:
            CommandError: as :func:`run_side`, and where the sides do not start as the same function.
        """
        for number in range(seeds):
            recipe = replace(self.recipe, seed=self.recipe.seed + number)
            order = SIDES if number % 2 == 0 else SIDES[::-1]
            found = {}
            for side in order:
                self._told(f"seed {recipe.seed} ({number + 1} of {seeds}), {side}")
                with tempfile.TemporaryDirectory() as folder:
                    job = Job(self.task, self.source, recipe, self.threads, side, Path(folder))
                    found[side] = self._runner(job)
            check_same_start(self.task, *(found[side]["start"] for side in SIDES))
            self.runs.append({"seed": recipe.seed, "order": list(order), **found})
            self._done(self)

    @property
    def notes(self) -> list[str]:
        """What was changed so that both sides can have it; each once."""
        return list(dict.fromkeys(note for run in self.runs for note in run[SIDES[0]]["notes"]))

    def summary(self) -> dict[str, dict[str, float | None]]:
        """By figure: both means; the mean difference with its standard error, or the median ratio.

        The standard error is that of the differences within a seed: with fewer than two seeds there is none.
        A ratio is torch.nn's over Sightline's.
        """
        found = {}
        first = self.runs[0][SIDES[0]]["figures"]
        for part, figures in first.items():
            for name in figures:
                pairs = self._pairs(lambda side, p=part, n=name: float(side["figures"][p][n]))  # type: ignore[misc]
                gaps = [ours - theirs for ours, theirs in pairs]
                error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else None
                found[f"{part} {name}"] = _means(pairs) | {
                    "difference": statistics.mean(gaps), "standard_error": error
                }  # fmt: skip
        clock = "cpu_seconds" if self.threads == 1 else "wall_seconds"
        rates: dict[str, Callable[[dict[str, Any]], float]] = {
            "milliseconds a step": lambda side: 1e3 * side[clock] / side["steps"],
            "examples a second": lambda side: side["examples"] / side[clock],
            "seconds of training": lambda side: side[clock],
        }
        if all(run[side]["tokens"] for run in self.runs for side in SIDES):  # images have none
            rates["tokens a second"] = lambda side: side["tokens"] / side[clock]
        if all(run[side]["peak_mb"] for run in self.runs for side in SIDES):
            rates["peak memory, MB"] = lambda side: side["peak_mb"]
        for name, rate in rates.items():
            pairs = self._pairs(rate)
            ratio = statistics.median(theirs / ours for ours, theirs in pairs)
            found[name] = _means(pairs) | {"ratio": ratio}
        return found

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "format": FORMAT, "task": self.task, "data": self.source.data.name, "threads": self.threads,
            "recipe": self.recipe.to_dict(), "notes": self.notes, "runs": self.runs,
            "summary": self.summary(),
        }  # fmt: skip

    def _pairs(self, read: Callable[[dict[str, Any]], float]) -> list[tuple[float, float]]:
        return [(read(run[SIDES[0]]), read(run[SIDES[1]])) for run in self.runs]

    def grid(self) -> Grid:
        """The summary as a table."""
        rows = []
        for name, each in self.summary().items():
            digits = 4 if "difference" in each else 1
            ours, theirs = (f"{each[side]:.{digits}f}" for side in SIDES)
            rows.append([name, ours, theirs, _compared(each)])
        seeds = ", ".join(str(run["seed"]) for run in self.runs)
        clock = "CPU time" if self.threads == 1 else "time of the clock"
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        note = f"Seeds {seeds}; {threads}, {clock} of the training steps alone."
        return Grid(
            f"{self.task}: Sightline beside torch.nn", " ".join([note, *(f"{n}." for n in self.notes)]),
            ["", "Sightline", "torch.nn", "difference, or × as much"], [False, True, True, True], rows,
        )  # fmt: skip


def check_same_start(task: str, ours: float, theirs: float) -> None:
    """Refuses two models whose first loss differs.

    Raises:
        CommandError: it does.
    """
    if abs(ours - theirs) > _SAME * max(1.0, abs(ours)):
        raise CommandError(
            f"{task}: the first loss is {ours:.6f} with Sightline and {theirs:.6f} with torch.nn; they are "
            f"not the same function"
        )


def _means(pairs: list[tuple[float, float]]) -> dict[str, float | None]:
    return {side: statistics.mean(pair[at] for pair in pairs) for at, side in enumerate(SIDES)}


def _compared(each: dict[str, float | None]) -> str:
    if "ratio" in each:
        return f"× {each['ratio']:.2f}"
    error = each["standard_error"]
    return f"{each['difference']:+.4f} ± {ABSENT if error is None else f'{error:.4f}'}"

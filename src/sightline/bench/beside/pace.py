"""How fast both sides learn, without learning to the end: the same steps, in turn."""

from __future__ import annotations

import itertools
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sightline.bench.beside.side import SIDES, SideJob, TimedRun
from sightline.bench.beside.side_by_side import check_same_start
from sightline.bench.text_table import TextTable
from sightline.products import keep_freed_memory
from sightline.tasks.batches import batches_of
from sightline.tasks.registry import find_task

_WARM = 2  # steps that do not count: in the first one the optimiser allocates its memory


def pace(job: SideJob, steps: int, progress: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Times some steps of each side, on the same batches, in one process; who begins alternates.

    Args:
        job: what to run; its side does not matter.
        steps: how many count; batches are repeated if there are fewer.
        progress: called with a line before each step.

    Returns:
        ``seconds`` by side, a number for each step; ``ratio``, torch.nn's over Sightline's, the median over
        the steps, and its ``quartiles``; ``examples`` and ``tokens`` of these steps; ``notes``.

    Raises:
        CommandError: as :func:`run_side`.
    """
    torch.set_num_threads(job.threads)
    keep_freed_memory()
    task = find_task(job.task)()
    progress("reading")
    data = task.read(job.source, job.recipe)
    with tempfile.TemporaryDirectory() as folder:
        runs = {side: TimedRun(task, data, replace(job, side=side, folder=Path(folder))) for side in SIDES}
        check_same_start(job.task, *(run.loss_at_start() for run in runs.values()))
        batches = batches_of(task, data.train, job.recipe.batch, job.recipe.seed, 0)
        drawn = list(itertools.islice(itertools.cycle(batches), _WARM + steps))
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for number, batch in enumerate(drawn):
            for side in SIDES if number % 2 == 0 else SIDES[::-1]:
                before = runs[side].seconds
                runs[side].learn(batch, len(drawn))
                seconds[side].append(runs[side].seconds - before)
            progress(f"step {number + 1} of {len(drawn)}")
    kept = {side: each[_WARM:] for side, each in seconds.items()}
    ratios = [theirs / ours for ours, theirs in zip(*kept.values(), strict=True)]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {
        "task": job.task, "recipe": job.recipe.to_dict(), "threads": job.threads, "seconds": kept,
        "ratio": statistics.median(ratios), "quartiles": [quartiles[0], quartiles[2]],
        "examples": sum(map(len, drawn[_WARM:])),
        "tokens": sum(task.size(each) for batch in drawn[_WARM:] for each in batch),
        "notes": runs[SIDES[0]].notes,
    }  # fmt: skip


def pace_table(figures: dict[str, Any]) -> TextTable:
    """The result of :func:`pace` as a table."""
    ours, theirs = (figures["seconds"][side] for side in SIDES)
    times = [["milliseconds a step", *(f"{1e3 * statistics.median(each):.1f}" for each in (ours, theirs))]]
    for name in ("examples", "tokens"):
        if figures[name]:  # images have no tokens
            rates = [f"{figures[name] / sum(each):.0f}" for each in (ours, theirs)]
            times.append([f"{name} a second", *rates])
    low, high = figures["quartiles"]
    clock = "CPU time" if figures["threads"] == 1 else "wall time"
    note = (
        f"{len(ours)} steps of each in turn, {clock}. torch.nn takes {figures['ratio']:.2f} times as long as "
        f"Sightline: the median of the steps; half of them lie from {low:.2f} to {high:.2f}."
    )
    return TextTable(
        f"{figures['task']}: steps of Sightline beside torch.nn",
        " ".join([note, *(f"{each}." for each in figures["notes"])]),
        ["", "Sightline", "torch.nn"], [False, True, True], times,
    )  # fmt: skip

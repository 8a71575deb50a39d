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

from sightline.bench.beside.comparison import check_same_start
from sightline.bench.beside.side import SIDES, Clocked, Job
from sightline.bench.grid import Grid
from sightline.tasks.batches import batches_of
from sightline.tasks.memory import keep_freed_memory
from sightline.tasks.registry import find_task

_WARM = 2  # steps that do not count: the optimiser's first takes its memory


def pace(job: Job, steps: int, told: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Times so many steps of each side, on the same batches, in one process; who begins changes each time.

    Args:
        job: whose side does not matter.
        steps: that count; batches come again where there are fewer.
        told: is given a line now and then.

    Returns:
        ``seconds`` by side, a number for each step; ``ratio``, torch.nn's over Sightline's, the median of
        the steps, and ``quartiles``; ``examples``, ``tokens`` of those steps; ``notes``.

    Raises:
        CommandError: as :func:`run_side`.
    """
    torch.set_num_threads(job.threads)
    keep_freed_memory()
    task = find_task(job.task)()
    told("reading")
    data = task.read(job.source, job.recipe)
    with tempfile.TemporaryDirectory() as folder:
        runs = {side: Clocked(task, data, replace(job, side=side, folder=Path(folder))) for side in SIDES}
        check_same_start(job.task, *(run.loss_at_start() for run in runs.values()))
        batches = batches_of(task, data.train, job.recipe.batch, job.recipe.seed, 0)
        drawn = list(itertools.islice(itertools.cycle(batches), _WARM + steps))
        seconds: dict[str, list[float]] = {side: [] for side in SIDES}
        for number, batch in enumerate(drawn):
            for side in SIDES if number % 2 == 0 else SIDES[::-1]:
                before = runs[side].seconds
                runs[side].learn(batch, len(drawn))
                seconds[side].append(runs[side].seconds - before)
            told(f"step {number + 1} of {len(drawn)}")
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


def pace_grid(found: dict[str, Any]) -> Grid:
    """What :func:`pace` found, as a table."""
    ours, theirs = (found["seconds"][side] for side in SIDES)
    times = [["milliseconds a step", *(f"{1e3 * statistics.median(each):.1f}" for each in (ours, theirs))]]
    for name in ("examples", "tokens"):
        if found[name]:  # images have no tokens
            times.append([f"{name} a second", *(f"{found[name] / sum(each):.0f}" for each in (ours, theirs))])
    low, high = found["quartiles"]
    clock = "CPU time" if found["threads"] == 1 else "time of the clock"
    note = (
        f"{len(ours)} steps of each in turn, {clock}. torch.nn takes {found['ratio']:.2f} times as long as "
        f"Sightline: the median of the steps; half of them lie from {low:.2f} to {high:.2f}."
    )
    return Grid(
        f"{found['task']}: steps of Sightline beside torch.nn",
        " ".join([note, *(f"{each}." for each in found["notes"])]),
        ["", "Sightline", "torch.nn"], [False, True, True], times,
    )  # fmt: skip

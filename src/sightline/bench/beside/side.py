"""One side of a comparison: a task's own training, with its model or the twin of ``torch.nn``."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.bench import resident
from sightline.bench.beside.twin import comparable, torch_twin
from sightline.common.errors import CommandError
from sightline.products import keep_freed_memory
from sightline.tasks.batches import batches_of
from sightline.tasks.recipe import Recipe
from sightline.tasks.registry import find_task
from sightline.tasks.task import Data, Source, Task
from sightline.tasks.training import TrainingListener, TrainingRun, finished

SIDES = ("sightline", "torch.nn")


@dataclass(frozen=True)
class SideJob:
    """What one side does.

    Attributes:
        task: the name of the task.
        source, recipe: data and settings, the same for both sides; the recipe holds the seed.
        threads: of PyTorch.
        side: one of SIDES.
        folder: an empty folder for checkpoints.
    """

    task: str
    source: Source
    recipe: Recipe
    threads: int
    side: str
    folder: Path


def run_side(job: SideJob, report: TrainingListener) -> dict[str, Any]:
    """Trains one side and measures it.

    Returns:
        ``figures`` by part of the data; ``start``, the loss of the first batch before any step, without
        dropout; ``epochs``; ``steps``; ``cpu_seconds`` and ``wall_seconds`` of all steps; ``examples`` and
        ``tokens`` that were learnt from, by :meth:`Task.size`; ``weights``; ``peak_mb``, the highest resident
        memory from the first step to the last, where Linux tells; ``notes``.

    Raises:
        CommandError: for data that cannot be read, or a model that ``torch.nn`` has no match for.
    """
    torch.set_num_threads(job.threads)
    keep_freed_memory()
    task = find_task(job.task)()
    data = task.read(job.source, job.recipe)
    if resident.AVAILABLE:
        resident.forget_peak()
    run = TimedRun(task, data, job)
    start = run.loss_at_start()
    history = run.fit(report)
    peak = resident.resident("VmHWM") if resident.AVAILABLE else None
    return {
        "figures": finished(run, report),
        "start": start, "epochs": len(history), "steps": run.progress.step,
        "cpu_seconds": run.cpu, "wall_seconds": run.wall, "examples": run.examples, "tokens": run.tokens,
        "weights": sum(p.numel() for p in run.model.parameters()), "peak_mb": peak,
        "notes": run.notes,
    }  # fmt: skip


class TimedRun(TrainingRun):
    """A run of one side that measures its steps; neither validation nor checkpoints count."""

    def __init__(self, task: Task, data: Data, job: SideJob) -> None:
        self.side, self.notes = job.side, list[str]()
        self.cpu = self.wall = 0.0
        self.examples = self.tokens = 0
        super().__init__(task, data, job.recipe, job.folder, {"task": job.task, "side": job.side})

    def _build(self) -> Any:
        model = self.task.build(self.recipe)
        try:
            model, changed = comparable(model)
            self.notes += [] if changed is None else [changed]
            with torch.random.fork_rng(devices=[]):  # layers draw weights, which are replaced
                return model if self.side == "sightline" else torch_twin(model)
        except ValueError as error:
            raise CommandError(f"{self.task.name} cannot be compared: {error}") from None

    def _step(self, batch: list[Any], total: int) -> float:
        cpu, wall = time.process_time(), time.perf_counter()
        loss = super()._step(batch, total)
        self.cpu += time.process_time() - cpu
        self.wall += time.perf_counter() - wall
        self.examples += len(batch)
        self.tokens += sum(map(self.task.size, batch))
        return loss

    @property
    def seconds(self) -> float:
        """The time of all steps so far: CPU time for one thread, wall time for more."""
        return self.cpu if torch.get_num_threads() == 1 else self.wall

    def learn(self, batch: list[Any], total: int) -> None:
        """One step of ``total``."""
        self._step(batch, total)

    def loss_at_start(self) -> float:
        """The loss of the first batch, in eval mode: the same on both sides, which are the same function."""
        batch = batches_of(self.task, self.data.train, self.recipe.batch, self.recipe.seed, 0)[0]
        self.model.eval()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(self.recipe.seed)
            loss: Tensor = self.task.loss(self.model, batch, self.recipe)
        return float(loss)

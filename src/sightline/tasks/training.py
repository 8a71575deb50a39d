"""The training loop: one for every task."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sightline.common.devices import placed
from sightline.common.errors import CommandError
from sightline.products import move_to_large_pages
from sightline.tasks.batches import batches_of
from sightline.tasks.checkpoint import TrainingProgress, load_run, save_run
from sightline.tasks.interrupt import Abandoned, Interrupts
from sightline.tasks.log import write_log
from sightline.tasks.optimiser import Optimiser
from sightline.tasks.processes import Processes
from sightline.tasks.recipe import Recipe
from sightline.tasks.task import Data, Task

_EVERY = 200  # steps between two checkpoints within an epoch


class TrainingListener(Protocol):
    """Receives the progress of a training run."""

    def notice(self, text: str) -> None:
        """What the user ought to know of the data."""

    def step(self, epoch: int, done: int, of: int, loss: float) -> None:
        """After every step."""

    def epoch(self, epoch: int, figures: dict[str, float], better: bool) -> None:
        """After every epoch."""

    def measuring(self, part: str, count: int) -> None:
        """Before the finished model is measured on so many examples."""


class Silent:
    """A listener that prints nothing."""

    def notice(self, text: str) -> None:
        """Nothing."""

    def step(self, epoch: int, done: int, of: int, loss: float) -> None:
        """Nothing."""

    def epoch(self, epoch: int, figures: dict[str, float], better: bool) -> None:
        """Nothing."""

    def measuring(self, part: str, count: int) -> None:
        """Nothing."""


class TrainingRun:
    """A model in training; resumes from a checkpoint in ``folder`` if there is one of the same run.

    With several processes each has a TrainingRun, and all finish each call together.
    """

    def __init__(
        self,
        task: Task,
        data: Data,
        recipe: Recipe,
        folder: Path,
        identity: dict[str, Any],
        processes: Processes | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        torch.manual_seed(recipe.seed)
        self.task, self.data, self.recipe, self.folder, self.identity = task, data, recipe, folder, identity
        self.processes = processes or Processes()
        self.model: Any = placed(self._build(), self.device)
        move_to_large_pages(self.model.parameters())
        self.processes.spread(self.model.state_dict().values())
        self.processes.seed(recipe.seed)
        self.optimiser = Optimiser(self.model, recipe)
        self.mean = (
            {name: t.detach().clone() for name, t in self.model.named_parameters()} if recipe.average else {}
        )
        self.best: dict[str, Tensor] = {}
        self.progress = TrainingProgress()
        self._clock = time.process_time()
        saved = self.processes.first(lambda: load_run(folder, identity))
        if saved is not None:
            self.progress = saved[0]
            self._restore(saved[1])

    def _build(self) -> Any:
        """The model to train, initialised after seeding."""
        fresh = self.task.build(self.recipe)
        return fresh if self.task.start is None else self.task.start.given_to(fresh)

    def fit(self, report: TrainingListener | None = None) -> list[dict[str, float]]:
        """Trains to the end; the model then has the weights of its best epoch. Returns what was measured.

        Ctrl-C saves the run after the current step, and reaches the caller as a
        KeyboardInterrupt; a second one stops at once, and the last checkpoint counts.

        Raises:
            CommandError: for a loss that is not finite, or a checkpoint that cannot be written.
        """
        listener = report or Silent()
        with Interrupts(quiet=self.processes.rank > 0) as interrupts:
            try:
                while (
                    self.progress.epoch < self.recipe.epochs and self.progress.waited < self.recipe.patience
                ):
                    self._epoch(listener, interrupts)
            except Abandoned:
                raise
            except KeyboardInterrupt:
                self.save()
                raise
        self.take_best()
        return self.progress.history

    def take_best(self) -> None:
        """Gives the model the weights of its best epoch, as far as there is one."""
        if self.best:
            self.model.load_state_dict(self.best, strict=False)

    def _epoch(self, listener: TrainingListener, interrupts: Interrupts) -> None:
        """The rest of the current epoch, and its validation."""
        progress, recipe = self.progress, self.recipe
        batches = batches_of(self.task, self.data.train, recipe.batch, recipe.seed, progress.epoch)
        while progress.at < len(batches):
            self._check(interrupts)
            loss = self._step(batches[progress.at], len(batches) * recipe.epochs)
            progress.at += 1
            progress.loss += loss
            listener.step(progress.epoch, progress.at, len(batches), loss)
            if progress.at % _EVERY == 0:
                self.save()
        self._check(interrupts)
        figures, better = self._end_of_epoch()
        listener.epoch(progress.epoch - 1, figures, better)
        self.save()
        self.processes.first(lambda: write_log(self.folder, progress))

    def _check(self, interrupts: Interrupts) -> None:
        if self.processes.any(interrupts.asked):
            raise KeyboardInterrupt

    def save(self) -> None:
        """Writes the checkpoint."""
        self._count_time()
        groups = {"model": _own(self.model), "optimiser": self.optimiser.state()}
        groups |= {"mean": self.mean, "best": self.best}
        groups["rng"] = {"states": self.processes.gathered(torch.get_rng_state())}
        if self.device.type == "cuda":
            groups["rng"]["cuda"] = self.processes.gathered(torch.cuda.get_rng_state(self.device))
        self.processes.first(lambda: save_run(self.folder, self.identity, self.progress, groups))

    def _count_time(self) -> None:
        now = time.process_time()
        self.progress.seconds += self.processes.total(now - self._clock)
        self._clock = now

    def _restore(self, groups: dict[str, dict[str, Tensor]]) -> None:
        # A copy: PyTorch 2.13 crashes on a view that does not begin where its storage does.
        torch.set_rng_state(groups["rng"]["states"][self.processes.rank].clone())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(groups["rng"]["cuda"][self.processes.rank].clone(), self.device)
        self.model.load_state_dict(groups["model"], strict=False)
        for name, own in (("mean", self.mean), ("best", self.best)):
            own.update((each, t.to(self.device)) for each, t in groups.get(name, {}).items())
        self.optimiser.restore(groups.get("optimiser", {}))

    def _step(self, batch: list[Any], total: int) -> float:
        recipe = self.recipe
        with self.processes.together():
            loss = self._gradients(batch)
        loss = self.processes.sum_gradients(self.model.parameters(), loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        self.optimiser.step(self.progress.step, total)
        self.progress.step += 1
        with torch.no_grad():
            keep = min(recipe.average, (1 + self.progress.step) / (10 + self.progress.step))
            for name, parameter in self.model.named_parameters():
                if self.mean:
                    self.mean[name].lerp_(parameter, 1 - keep)
        return loss

    def _gradients(self, batch: list[Any]) -> float:
        """The gradients of this process's share of a batch; returns its part of the batch's mean loss."""
        task, recipe, share = self.task, self.recipe, self.processes.share(batch)
        self.optimiser.zero_grad()
        if not share:  # fewer examples than processes
            return 0.0
        self.model.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            loss = task.loss(self.model, share, recipe) * (task.weight(share) / task.weight(batch))
        if not torch.isfinite(loss):
            raise CommandError(
                f"the loss became {float(loss.detach()):g} in epoch {self.progress.epoch + 1}, at step "
                f"{self.progress.step + 1}; a lower --set rate (it is {recipe.rate:g}) or --set "
                f"precision=float32 may help"
            )
        loss.backward()
        return float(loss.detach())

    def _end_of_epoch(self) -> tuple[dict[str, float], bool]:
        progress, task = self.progress, self.task
        own = _own(self.model)
        if self.mean:
            self.model.load_state_dict(self.mean, strict=False)
        figures = self.processes.first(lambda: measured(task, self.model, self.data.valid, self.recipe))
        sign = 1 if task.higher_is_better else -1
        score = [sign * figures[task.metric], -figures["loss"]]  # of equal figures the lower loss is better
        better = progress.best is None or score > progress.best
        if better:
            progress.best, progress.waited = score, 0
            self.best = {name: t.detach().clone() for name, t in _own(self.model).items()}
        else:
            progress.waited += 1
        self.model.load_state_dict(own, strict=False)
        figures = {"training_loss": progress.loss / progress.at, **figures}
        progress.history.append(figures)
        progress.epoch, progress.at, progress.loss = progress.epoch + 1, 0, 0.0
        self._count_time()
        progress.spent.append(progress.seconds)
        return figures, better


def measured(
    task: Task, model: Any, examples: list[Any], recipe: Recipe, *, finished: bool = False
) -> dict[str, float]:
    """Figures of a model in eval mode, without gradients; for a finished model also the slower ones."""
    model.eval()
    with torch.no_grad():
        return (task.judge if finished else task.evaluate)(model, examples, recipe)


def finished(run: TrainingRun, listener: TrainingListener) -> dict[str, dict[str, float]]:
    """Lets the task tune its answers, then measures the validation part and the test part."""
    figures = {}
    run.model.eval()
    with torch.no_grad():
        run.task.settle(run.model, run.data.valid, run.recipe)
    for name, part in (("validation", run.data.valid), ("test", run.data.test)):
        if part:
            listener.measuring(name, len(part))
            figures[name] = measured(run.task, run.model, part, run.recipe, finished=True)
    return figures


def _own(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the tensors, each once even if two names share it."""
    seen: set[int] = set()
    kept = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            kept[name] = tensor.detach().clone()
    return kept

"""From data to a finished model in a folder."""

from __future__ import annotations

from pathlib import Path

import torch

from sightline.common.errors import CommandError
from sightline.models.saving import stored
from sightline.tasks.card import write_card
from sightline.tasks.checkpoint import forget_run
from sightline.tasks.precision import notices_of_precision
from sightline.tasks.processes import Processes
from sightline.tasks.recipe import Recipe
from sightline.tasks.registry import FILE, find_task, save_task
from sightline.tasks.starting import Start
from sightline.tasks.task import Source
from sightline.tasks.training import Silent, TrainingListener, TrainingRun, finished

_NOTICES = 5


def fit(
    task: str,
    source: Source,
    out: Path,
    recipe: Recipe | None = None,
    report: TrainingListener | None = None,
    licence: str | None = None,
    processes: Processes | None = None,
    start: Start | None = None,
    device: torch.device | None = None,
    finish: bool = False,
) -> dict[str, dict[str, float]]:
    """Trains a model, measures it, and writes it with its card; resumes a run in ``out`` where it stopped.

    Args:
        task: its name.
        source: the data.
        out: the model's folder; made if it is not there.
        recipe: the settings. Default: the task's.
        report: receives the progress. Default: nobody does.
        licence: of the data, for the card.
        processes: those that train it together, each of which calls this; see :func:`joined`. Default: only
            this one.
        start: the trained model whose body and tokenizer it starts with. Default: none, from scratch.
        device: where it is trained. Default: the CPU.
        finish: train no more, and take the best epoch of the run in ``out``.

    Returns:
        Figures by part of the data, "validation" and "test", by name.

    Raises:
        CommandError: for data that cannot be read, a folder that cannot be written or holds a finished
            model, a checkpoint of another run; ``finish`` without a whole epoch; in all processes if in one.
        KeyboardInterrupt: after Ctrl-C; the run is saved.
    """
    job, processes = find_task(task)(), processes or Processes()
    job.start = start
    listener = report if report is not None and processes.rank == 0 else Silent()
    recipe = recipe or (job.recipe if start is None else start.recipe(job.recipe))
    processes.first(lambda: _make(out))
    with processes.together():
        if start is not None:
            start.check(recipe)
        data = job.read(source, recipe)
        identity = {
            "task": task, "recipe": recipe.to_dict(), "data": source.digest(),
            "threads": torch.get_num_threads(), "number of processes": processes.count,
        }  # fmt: skip
        if start is not None:
            identity["start"] = start.digest
        if device is not None and device.type != "cpu":
            identity["device"] = device.type
    processes.check_same(identity)
    _report_notices(
        listener, [*([] if "device" in identity else notices_of_precision(recipe)), *data.notices]
    )
    run = TrainingRun(job, data, recipe, out, identity, processes, device)
    if finish:
        _stop_here(run)
    else:
        run.fit(listener)
    about = {"data": source.data.name, "licence": licence or "not given"}
    if start is not None:
        about["start"] = f"the body and the tokenizer of {start.name}"
    return processes.first(lambda: _finish(run, listener, about))


def _stop_here(run: TrainingRun) -> None:
    if not run.best:
        raise CommandError(f"--finish: {run.folder} holds no run with a whole epoch; train without it first")
    run.take_best()


def _make(out: Path) -> None:
    if (out / FILE).exists():
        raise CommandError(f"--out {out}: holds a finished model; give another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--out {out}: cannot be made: {error.strerror or error}") from None


def _report_notices(listener: TrainingListener, notices: list[str]) -> None:
    for notice in notices[:_NOTICES]:
        listener.notice(notice)
    if len(notices) > _NOTICES:
        listener.notice(f"and {len(notices) - _NOTICES} more notices")


def _finish(
    run: TrainingRun, listener: TrainingListener, about: dict[str, str]
) -> dict[str, dict[str, float]]:
    """Measures and writes the model of a finished run."""
    task, data, recipe, out = run.task, run.data, run.recipe, run.folder
    with torch.no_grad():  # what is measured is what is kept
        for parameter in run.model.parameters():
            parameter.copy_(stored(parameter, getattr(torch, recipe.storage)))
    figures = finished(run, listener)
    write_card(out, task, run.model, recipe, data, figures, about, run.processes.count)
    save_task(out, task, run.model, recipe)
    forget_run(out)
    return figures

"""From data to a finished model in a folder."""

from __future__ import annotations

from pathlib import Path

import torch

from sightline.errors import CommandError
from sightline.tasks.card import write_card
from sightline.tasks.checkpoint import forget_run
from sightline.tasks.recipe import Recipe
from sightline.tasks.registry import FILE, find_task, save_task
from sightline.tasks.task import Source
from sightline.tasks.training import Report, Run, Silent, measured, settled

_NOTICES = 5


def fit(
    task: str,
    source: Source,
    out: Path,
    recipe: Recipe | None = None,
    report: Report | None = None,
    licence: str | None = None,
) -> dict[str, dict[str, float]]:
    """Trains a model, measures it, and writes it with its card; goes on where a run in ``out`` stopped.

    Args:
        task: its name.
        source: the data.
        out: the model's folder; made if it is not there.
        recipe: the settings. Default: the task's.
        report: told how it goes on. Default: nobody is.
        licence: of the data, for the card.

    Returns:
        Figures by part of the data, "validation" and "test", by name.

    Raises:
        CommandError: for data that cannot be read, a folder that cannot be written or holds a finished
            model, a checkpoint of another run.
        KeyboardInterrupt: after Ctrl-C; the run is saved.
    """
    job, told = find_task(task)(), report or Silent()
    recipe = recipe or job.recipe
    if (out / FILE).exists():
        raise CommandError(f"--out {out}: holds a finished model; give another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--out {out}: cannot be made: {error.strerror or error}") from None
    data = job.read(source, recipe)
    for notice in data.notices[:_NOTICES]:
        told.notice(notice)
    if len(data.notices) > _NOTICES:
        told.notice(f"and {len(data.notices) - _NOTICES} more notices")
    identity = {
        "task": task, "recipe": recipe.to_dict(), "data": source.digest(), "threads": torch.get_num_threads()
    }  # fmt: skip
    run = Run(job, data, recipe, out, identity)
    run.fit(told)
    if recipe.storage == "float16":  # what is measured is what is kept
        with torch.no_grad():
            for parameter in run.model.parameters():
                parameter.copy_(parameter.half())
    settled(job, run.model, data.valid, recipe)
    figures = {
        part: measured(job, run.model, examples, recipe, finished=True)
        for part, examples in (("validation", data.valid), ("test", data.test))
        if examples
    }
    about = {"data": source.data.name, "licence": licence or "not given"}
    write_card(out, job, run.model, recipe, data, figures, about)
    save_task(out, job, run.model, recipe)
    forget_run(out)
    return figures

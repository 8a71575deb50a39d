"""The tasks by name, and saving and loading a trained model with what its task needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from sightline.common.atomic import write_atomically
from sightline.common.devices import placed
from sightline.common.errors import CommandError
from sightline.models import Model, from_pretrained, load_tokenizer
from sightline.tasks.checkpoint import FILE as UNFINISHED
from sightline.tasks.images.classification import ImageClassification
from sightline.tasks.language import Language
from sightline.tasks.pairs import Summarization, Translation
from sightline.tasks.recipe import Recipe
from sightline.tasks.sentiment import Sentiment
from sightline.tasks.speech import SpeechRecognition
from sightline.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    each.name: each
    for each in (Sentiment, Translation, Summarization, Language, ImageClassification, SpeechRecognition)
}
FILE = "task.json"


def find_task(name: str) -> type[Task]:
    """The task of that name.

    Raises:
        CommandError: there is none.
    """
    if not isinstance(name, str) or name not in TASKS:
        raise CommandError(f"there is no task {name!r}; known are {', '.join(TASKS)}")
    return TASKS[name]


def save_task(folder: Path, task: Task, model: Model, recipe: Recipe) -> None:
    """The model, its tokenizer, and what the task needs to answer with it.

    Raises:
        CommandError: it cannot be written.
    """
    described = {
        "task": task.name, "labels": task.labels, "settings": task.settings, "recipe": recipe.to_dict()
    }  # fmt: skip
    try:
        model.save_pretrained(folder, task.tokenizer, dtype=getattr(torch, recipe.storage))
    except OSError as error:
        raise CommandError(f"cannot write to {folder}: {error.strerror or error}") from None
    # Last, since it marks the model as complete.
    write_atomically(folder / FILE, [json.dumps(described, indent=2) + "\n"])


def load_task(
    folder: Path, wanted: str | None = None, device: torch.device | None = None
) -> tuple[Task, Any, Recipe]:
    """The inverse of :func:`save_task`, on a device; by default on the CPU.

    Raises:
        CommandError: the folder holds no model of a task, or one of another task than ``wanted``.
    """
    path = folder / FILE
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        kind = find_task(described["task"])
        recipe = type(kind.recipe)(**described["recipe"])
        labels = [str(label) for label in described["labels"]]
        settings = dict(described.get("settings", {}))
    except (FileNotFoundError, NotADirectoryError):
        if (folder / UNFINISHED).exists():
            raise CommandError(
                f"{folder}: the model is still being trained, or its run was stopped; the same "
                f"sightline train goes on with it"
            ) from None
        raise CommandError(f"{folder}: holds no model of a task ({FILE} is missing)") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CommandError(f"{path}: cannot be read: {error}") from None
    if wanted is not None and kind.name != wanted:
        raise CommandError(f"{folder}: is a model of {kind.name}, not of {wanted}")
    task = kind()
    model = placed(from_pretrained(folder).float(), device or torch.device("cpu"))
    task.tokenizer = load_tokenizer(folder) if task.tokenized else None
    task.labels, task.settings = labels, settings
    return task, model, recipe

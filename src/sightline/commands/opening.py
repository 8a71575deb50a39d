"""Which model a name on the command line means, opened."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sightline.common.errors import CommandError
from sightline.reading.opened import OpenedModel
from sightline.reading.runnable import Runnable
from sightline.removing.question import Question

DEFAULT = "translation"
"""The task whose model, of those that come with Sightline, reads where none is named."""


def open_model(name: str | None) -> OpenedModel:
    """Opens a folder (Sightline's or Transformers'), a task's model in the box, or a Hugging Face name.

    Raises:
        CommandError: there is no such model, or it does not load.
    """
    from sightline.tasks.box import box_folder, boxed
    from sightline.tasks.opened import TaskModel
    from sightline.tasks.registry import FILE

    name = name or DEFAULT
    folder = Path(name).expanduser()
    if (folder / FILE).is_file():
        return TaskModel(folder, name)
    if name in boxed() and not folder.exists():
        return TaskModel(box_folder(name), f"Sightline's model for {name}")
    if _is_saved(folder):
        from sightline.reading.saved import SavedModel

        return SavedModel(folder, name)

    from sightline.reading.published import PublishedModel

    return PublishedModel(name)


def _is_saved(folder: Path) -> bool:
    """Whether ``save_pretrained`` of ``sightline.models`` wrote the folder."""
    config = folder / "config.json"
    return config.is_file() and b'"sightline.models"' in config.read_bytes()


def runnable_of(opened: OpenedModel) -> Runnable:
    """An opened model as a page runs it.

    Raises:
        CommandError: it is none of ``sightline.models``, or its inputs are no texts.
    """
    from sightline.reading.saved import SavedModel
    from sightline.tasks.opened import TaskModel

    if not isinstance(opened, (TaskModel, SavedModel)):
        raise CommandError(
            f"{opened.name}: a page runs models of Sightline, and this is one of Transformers; "
            f"sightline look writes a page of what it attends to, and sightline.models.from_huggingface "
            f"turns BERT, GPT-2, BART and Marian into models of Sightline"
        )
    return opened.runnable()


class Asked(Protocol):
    """A model that is asked for a number."""

    def question(self, text: str, target: str | None = None) -> Question:
        """The question of a text."""


def open_asked(name: str) -> Asked:
    """The same for a model whose answer is asked: one of Transformers comes with its head.

    Raises:
        CommandError: there is no such model, or it does not load.
    """
    from sightline.tasks.box import boxed
    from sightline.tasks.registry import FILE

    folder = Path(name).expanduser()
    if (folder / FILE).is_file() or (name in boxed() and not folder.exists()):
        from sightline.tasks.opened import TaskModel

        opened = open_model(name)
        assert isinstance(opened, TaskModel)
        return opened

    from sightline.reading.questions import HeadedModel

    return HeadedModel(name)

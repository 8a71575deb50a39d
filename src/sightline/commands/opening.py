"""Which model a name on the command line means, opened."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from sightline.reading.opened import OpenedModel
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

    from sightline.reading.published import PublishedModel

    return PublishedModel(name)


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

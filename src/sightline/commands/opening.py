"""Which model a name on the command line means, opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sightline.common.errors import CommandError
from sightline.reading.opened import OpenedModel
from sightline.reading.reading import Reading
from sightline.reading.runnable import Runnable
from sightline.removing.question import Question

if TYPE_CHECKING:
    import torch

DEFAULT = "translation"
"""The task whose model, of those that come with Sightline, reads where none is named."""


def open_model(name: str | None, head: bool = False, device: torch.device | None = None) -> OpenedModel:
    """Opens a folder (Sightline's or Transformers'), a task's model in the box, or a Hugging Face name.

    Args:
        name: of the model.
        head: of a model of Transformers, whether its head is loaded, too.
        device: where it runs. Default: the CPU.

    Raises:
        CommandError: there is no such model, or it does not load.
    """
    from sightline.tasks.box import box_folder, in_box
    from sightline.tasks.opened import TaskModel
    from sightline.tasks.registry import FILE

    name = name or DEFAULT
    folder = Path(name).expanduser()
    if (folder / FILE).is_file():
        return TaskModel(folder, name, device)
    if not folder.exists() and in_box(name):
        return TaskModel(box_folder(name), f"Sightline's model for {name}", device)

    from sightline.reading.published import PublishedModel

    return PublishedModel(name, head, device)


def _is_saved(folder: Path) -> bool:
    """Whether ``save_pretrained`` of ``sightline.models`` wrote the folder."""
    config = folder / "config.json"
    return config.is_file() and b'"sightline.models"' in config.read_bytes()


class RunsInPage(Protocol):
    """A model that reads texts, and can be run in a page."""

    def read(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> Reading:
        """What it makes of a text; see :class:`sightline.reading.opened.OpenedModel`."""
        ...

    def runnable(self) -> Runnable:
        """The model with what a page needs.

        Raises:
            CommandError: its inputs are no texts.
        """
        ...


def open_runnable(name: str, device: torch.device | None = None) -> RunsInPage:
    """Opens a task's model in the box, or a folder that a task or ``sightline.models`` wrote.

    Raises:
        CommandError: there is no such model, or it is not one of Sightline.
    """
    from sightline.tasks.box import boxed, in_box
    from sightline.tasks.registry import FILE

    folder = Path(name).expanduser()
    if (folder / FILE).is_file() or (not folder.exists() and in_box(name)):
        from sightline.tasks.opened import TaskModel

        opened = open_model(name, device=device)
        assert isinstance(opened, TaskModel)
        return opened
    if _is_saved(folder):
        from sightline.reading.saved import SavedModel

        return SavedModel(folder, name, device)
    if not folder.is_dir():
        raise CommandError(
            f"there is no folder {name!r}, and no task of that name; models of {', '.join(boxed())} come "
            f"with Sightline"
        )
    raise CommandError(
        f"{name}: holds no model of Sightline, which a page can run; sightline look writes a page of what a "
        f"model of Transformers attends to"
    )


class Asked(Protocol):
    """A model that is asked for a number."""

    def question(self, text: str, target: str | None = None) -> Question:
        """The question of a text."""


def open_asked(name: str, device: torch.device | None = None) -> Asked:
    """The same for a model whose answer is asked: one of Transformers comes with its head.

    Raises:
        CommandError: there is no such model, or it does not load.
    """
    from sightline.tasks.box import in_box
    from sightline.tasks.registry import FILE

    folder = Path(name).expanduser()
    if (folder / FILE).is_file() or (not folder.exists() and in_box(name)):
        from sightline.tasks.opened import TaskModel

        opened = open_model(name, device=device)
        assert isinstance(opened, TaskModel)
        return opened

    from sightline.reading.questions import HeadedModel

    return HeadedModel(name, device)

"""The models that come with Sightline: one for each task, trained by its recipe."""

from __future__ import annotations

from pathlib import Path

from sightline.common.errors import CommandError
from sightline.tasks.registry import FILE

_BOX = Path(__file__).parent.parent / "box"


def boxed() -> list[str]:
    """The tasks that have a model here."""
    return sorted(path.parent.name for path in _BOX.glob(f"*/{FILE}"))


def box_folder(task: str) -> Path:
    """Where the model of a task lies, with its card (README.md) and log.

    Raises:
        CommandError: none comes with Sightline.
    """
    folder = _BOX / task
    if not (folder / FILE).is_file():
        raise CommandError(
            f"no model of {task} comes with Sightline; sightline train {task} --data ... --out FOLDER "
            f"makes one"
        )
    return folder

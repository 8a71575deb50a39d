"""The models that come with Sightline: one for each task, trained by its recipe."""

from __future__ import annotations

from pathlib import Path

from sightline.common.errors import CommandError
from sightline.tasks.registry import FILE, TASKS

_BOX = Path(__file__).parent.parent / "box"


def boxed() -> list[str]:
    """The tasks that have a model here."""
    return sorted(path.parent.name for path in _BOX.glob(f"*/{FILE}"))


def in_box(name: str) -> bool:
    """Whether a model of that task comes with Sightline.

    Raises:
        CommandError: it is a task, and no model at all is there: so it is where Sightline was built from its
            source distribution.
    """
    there = boxed()
    if not there and name in TASKS:
        raise CommandError(
            "no models came with this Sightline: it was built from the source distribution, and wheels have "
            "them: pip install --force-reinstall --no-deps --only-binary sightline sightline"
        )
    return name in there


def box_folder(task: str) -> Path:
    """Where the model of a task lies, with its card (README.md) and log.

    Raises:
        CommandError: none comes with Sightline.
    """
    folder = _BOX / task
    in_box(task)
    if not (folder / FILE).is_file():
        raise CommandError(
            f"no model of {task} comes with Sightline; sightline train {task} --data ... --out FOLDER "
            f"makes one"
        )
    return folder

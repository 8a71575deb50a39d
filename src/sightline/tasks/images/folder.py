"""Folders with a folder of images for each label, as torchvision's ImageFolder has them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sightline.tasks.images.pixels import ENDINGS
from sightline.tasks.rows import DataError


def images_in(folder: Path) -> list[Path]:
    """Images in a folder and its subfolders, in order; files without an image's ending are ignored."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in ENDINGS and path.is_file() and not _is_hidden(path, folder)
    )


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def labels_of(folder: Path) -> list[str]:
    """The labels: names of folders that hold an image, in order.

    Raises:
        DataError: for a folder without images, or fewer than two.
    """
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(folders) < 2:
        raise DataError(
            f"{folder}: expected train-images-idx3-ubyte and its like, or a folder of images for each of two "
            f"or more labels; found {len(folders)} folder{'' if len(folders) == 1 else 's'}"
        )
    for path in folders:
        if not images_in(path):
            raise DataError(f"{path}: holds no image; known endings are {', '.join(sorted(ENDINGS))}")
    return [path.name for path in folders]


def labelled(folder: Path, labels: list[str]) -> Iterator[tuple[Path, int]]:
    """(path, number of its label) of each image.

    Raises:
        DataError: for a label that is not in ``labels``.
    """
    for label in labels_of(folder):
        if label not in labels:
            raise DataError(
                f"{folder / label}: label {label!r} is not among those of the training data: {labels}"
            )
        for path in images_in(folder / label):
            yield path, labels.index(label)

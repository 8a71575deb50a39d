"""Labelled images of all parts of the data, in one size and with the same channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from sightline.tasks.images import idx
from sightline.tasks.images.folder import labelled, labels_of
from sightline.tasks.images.pixels import as_pixels, is_grey, open_image, pillow
from sightline.tasks.rows import DataError
from sightline.tasks.task import Source

LABELS = "labels.txt"
_IDX_PARTS = ("train", "t10k")


class LabelledImage(NamedTuple):
    """An image as [channels,size,size] bytes, and its label's number."""

    pixels: Tensor
    label: int


@dataclass
class Images:
    """Labelled images of all parts.

    Attributes:
        labels: names of the labels, in the order of their numbers.
        channels: 1 where all training images are grey, else 3.
        bad: a sentence for each item that was skipped.
    """

    labels: list[str]
    channels: int = 3
    train: list[LabelledImage] = field(default_factory=list)
    valid: list[LabelledImage] = field(default_factory=list)
    test: list[LabelledImage] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


def read_images(source: Source, size: int) -> Images:
    """All parts of the data. The test part of IDX files is their "t10k", if no other is given.

    Raises:
        DataError: for data that cannot be read, or a label that is missing from the training data.
    """
    for name, folder in (("data", source.data), ("valid", source.valid), ("test", source.test)):
        if folder is not None and not folder.is_dir():
            raise DataError(f"--{name} {folder}: there is no such folder")
    images = Images(_labels(source))
    images.train = _examples(source.data, "train", images, size, source.skip_bad)
    if len({label for _, label in images.train}) < 2:
        raise DataError(f"{source.data}: all sound images have the same label; two are needed")
    if all(is_grey(pixels) for pixels, _ in images.train):
        images.channels = 1
        images.train = [LabelledImage(pixels[:1].clone(), label) for pixels, label in images.train]
    if source.valid is not None:
        images.valid = _examples(source.valid, "t10k", images, size, source.skip_bad)
    if source.test is not None or idx.part_of(source.data, "t10k"):
        images.test = _examples(source.test or source.data, "t10k", images, size, source.skip_bad)
    return images


def _labels(source: Source) -> list[str]:
    """The folders' names; for IDX files the lines of ``labels.txt`` or another file, else the numbers."""
    files = idx.part_of(source.data, "train")
    if files is None:
        source.refuse("a folder of images for each label", "labels")
        return labels_of(source.data)
    path = source.labels or source.data / LABELS
    if source.labels is None and not path.is_file():
        numbers = idx.read_idx(files[1], 1).tolist()
        return [str(number) for number in range(max(numbers, default=0) + 1)]
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    names = [line for line in lines if line]
    if len(names) < 2 or len(set(names)) < len(names):
        raise DataError(f"{path}: expected two or more different names, a line each; found {names}")
    return names


def _examples(folder: Path, part: str, known: Images, size: int, skip_bad: bool) -> list[LabelledImage]:
    """The images of a folder; for IDX files those of ``part``, or of the only part."""
    examples: list[LabelledImage] = []
    parts = [idx.part_of(folder, each) for each in (part, *_IDX_PARTS)]
    files = next((each for each in parts if each is not None), None)
    for example in _of_folder(folder, known, size) if files is None else _of_idx(files, known, size):
        if isinstance(example, LabelledImage):
            examples.append(example)
        elif skip_bad:
            known.bad.append(str(example))
        else:
            raise DataError(f"{example} (--skip-bad passes over such images)")
    if not examples:
        raise DataError(f"{folder}: holds no image that can be read")
    return examples


def _of_folder(folder: Path, known: Images, size: int) -> Iterator[LabelledImage | DataError]:
    for path, label in labelled(folder, known.labels):
        try:
            yield LabelledImage(as_pixels(open_image(path), size, known.channels), label)
        except DataError as error:
            yield error


def _of_idx(files: tuple[Path, Path], known: Images, size: int) -> Iterator[LabelledImage | DataError]:
    images, numbers = idx.read_part(*files)
    for at, (pixels, number) in enumerate(zip(images, numbers.tolist(), strict=True)):
        if number >= len(known.labels):
            yield DataError(
                f"{files[1]}, image {at}: has the label {number}, but the {len(known.labels)} labels end at "
                f"{len(known.labels) - 1}"
            )
        elif pixels.shape == (size, size):
            yield LabelledImage(pixels.expand(known.channels, size, size), number)
        else:
            image = pillow().frombytes("L", pixels.shape[::-1], bytes(pixels.flatten().tolist()))
            yield LabelledImage(as_pixels(image.convert("RGB"), size, known.channels), number)

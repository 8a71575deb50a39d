"""IDX files, the format of MNIST and similar sets: a header with the sizes, then the bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.tasks.rows import DataError

_BYTES = 8  # the code of unsigned bytes, the only type in such sets


def part_of(folder: Path, part: str) -> tuple[Path, Path] | None:
    """(images, labels) of a part, "train" or "t10k"; ``None`` where neither is there.

    Raises:
        DataError: one of the two is missing.
    """
    names = (f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte")
    images, labels = (_either(folder / name) for name in names)
    if images is None and labels is None:
        return None
    for file, name in ((images, names[0]), (labels, names[1])):
        if file is None:
            raise DataError(f"{folder}: holds no {name}, nor {name}.gz")
    assert images is not None
    assert labels is not None
    return images, labels


def _either(path: Path) -> Path | None:
    return next((each for each in (path, path.with_name(path.name + ".gz")) if each.is_file()), None)


def read_part(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    """([N,height,width] uint8, [N] uint8).

    Raises:
        DataError: a file is malformed, or there are not as many labels as images, or none.
    """
    pixels, numbers = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(numbers):
        raise DataError(f"{labels}: holds {len(numbers)} labels, but {images.name} {len(pixels)} images")
    if not pixels.numel():
        raise DataError(f"{images}: holds no pixels: its sizes are {list(pixels.shape)}")
    return pixels, numbers


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The bytes of an IDX file as a tensor of its sizes, plain or with .gz.

    Raises:
        DataError: it cannot be read, is not an IDX file of bytes with that many dimensions, or is longer or
            shorter than its header says.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            sizes = _sizes(path, file, dimensions)
            wanted = math.prod(sizes)
            content = file.read(wanted + 1)
    except (OSError, EOFError, zlib.error, OverflowError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if len(content) != wanted:
        has = "more" if len(content) > wanted else f"only {len(content)}"
        raise DataError(
            f"{path}: its header says {' x '.join(map(str, sizes))} bytes, but there are {has}; "
            f"it is damaged or truncated"
        )
    if not content:
        return torch.empty(sizes, dtype=torch.uint8)
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).view(sizes)


def _sizes(path: Path, file: Any, dimensions: int) -> tuple[int, ...]:
    magic = file.read(4)
    if magic != bytes((0, 0, _BYTES, dimensions)):
        raise DataError(
            f"{path}: begins with {magic.hex(' ') or 'nothing'}, expected 00 00 08 {dimensions:02x}, as IDX "
            f"of bytes in {dimensions} dimension{'s' if dimensions > 1 else ''} does"
        )
    header = file.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise DataError(f"{path}: ends within its header")
    return struct.unpack(f">{dimensions}I", header)

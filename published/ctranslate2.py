"""Reading a model in CTranslate2's binary format, version 6.

Little-endian. Strings are a 16-bit length, which counts a closing zero, and the bytes. The file: the
version, the name and the revision of the model's specification; the number of variables, and each as name,
rank (8 bits), sizes, type (8 bits), number of bytes, data; the number of aliases, and each as a name and
the variable that it means. Numbers are 32 bits where nothing else is said.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

VERSION = 6
TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}


def read_model(path: Path) -> dict[str, NDArray[np.generic]]:
    """The variables by name, aliases included.

    Raises:
        ValueError: for another version, an unknown type (bfloat16 among them), sizes that do not fit the
            data, or a file that ends too early or too late.
    """
    file = _File(path)
    version = file.number("I")
    if version != VERSION:
        raise ValueError(f"{path}: CTranslate2 format {version}, where only {VERSION} is read")
    file.text(), file.number("I")  # the specification and its revision
    variables = dict(file.variable() for _ in range(file.number("I")))
    for _ in range(file.number("I")):
        alias = file.text()
        variables[alias] = variables[file.text()]
    if file.at != len(file.data):
        raise ValueError(f"{path}: {len(file.data) - file.at} bytes are left after the last alias")
    return variables


class _File:
    """The bytes, and how far they are read."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.at = path, path.read_bytes(), 0

    def take(self, size: int) -> bytes:
        """The next bytes."""
        taken = self.data[self.at : self.at + size]
        if len(taken) < size:
            raise ValueError(f"{self.path}: ends after {len(self.data)} bytes, in the middle of something")
        self.at += size
        return taken

    def number(self, kind: str) -> int:
        """The next number, of a format of ``struct``."""
        (value,) = struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))
        return int(value)

    def text(self) -> str:
        """The next string."""
        return self.take(self.number("H"))[:-1].decode()

    def variable(self) -> tuple[str, NDArray[np.generic]]:
        """The next variable."""
        name = self.text()
        sizes = [self.number("I") for _ in range(self.number("B"))]
        kind = self.number("B")
        if kind not in TYPES:
            raise ValueError(f"{self.path}: {name} is of type {kind}; known are {sorted(TYPES)}")
        data = np.frombuffer(self.take(self.number("I")), TYPES[kind])
        if data.size != int(np.prod(sizes)):
            raise ValueError(f"{self.path}: {name} has {data.size} values for sizes {sizes}")
        return name, data.reshape(sizes)

"""Writing a file so that it is either all there or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sightline.common.errors import CommandError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of ``path`` when the block ends.

    It lies in the same folder until then; if anything stops the block (an error, Ctrl-C), the old file is as
    it was and nothing is left over.

    Raises:
        OSError: if the file cannot be written.
    """
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        # mkstemp makes a file that only its owner may read; what is written here is meant to be shared.
        os.chmod(part, 0o666 & ~_umask())
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check_writable(path: Path) -> None:
    """Complain early, before a model is loaded, when ``path`` cannot be written.

    Raises:
        CommandError: its folder is missing or not writable, or ``path`` is a folder.
    """
    folder = path.parent
    if not folder.is_dir():
        raise CommandError(f"cannot write {path}: the folder {folder} does not exist")
    if path.is_dir():
        raise CommandError(f"cannot write {path}: it is a folder")
    if not os.access(folder, os.W_OK):
        raise CommandError(f"cannot write {path}: the folder {folder} is not writable")


def write_atomically(path: Path, parts: Iterable[str]) -> int:
    """Write ``parts`` one after another to ``path`` in UTF-8 and return the number of bytes.

    If anything stops that (an error, Ctrl-C), the old file is as it was and nothing is left over.
    """
    check_writable(path)
    try:
        with replacing(path) as file:
            return sum(file.write(part.encode()) for part in parts)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from None

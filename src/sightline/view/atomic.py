"""Writing a page or an export, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sightline.atomic import replacing
from sightline.view.errors import LookError


def check_writable(path: Path) -> None:
    """Complain early, before a model is loaded, when ``path`` cannot be written.

    Raises:
        LookError: its folder is missing or not writable, or ``path`` is a folder.
    """
    folder = path.parent
    if not folder.is_dir():
        raise LookError(f"cannot write {path}: the folder {folder} does not exist")
    if path.is_dir():
        raise LookError(f"cannot write {path}: it is a folder")
    if not os.access(folder, os.W_OK):
        raise LookError(f"cannot write {path}: the folder {folder} is not writable")


def write_atomically(path: Path, parts: Iterable[str]) -> int:
    """Write ``parts`` one after another to ``path`` in UTF-8 and return the number of bytes.

    If anything stops that (an error, Ctrl-C), the old file is as it was and nothing is left over.
    """
    check_writable(path)
    try:
        with replacing(path) as file:
            return sum(file.write(part.encode()) for part in parts)
    except OSError as error:
        raise LookError(f"cannot write {path}: {error.strerror or error}") from None

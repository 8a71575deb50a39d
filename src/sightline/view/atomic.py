"""Writing a file so that it is either all there or not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

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

    The parts go to a temporary file in the same folder, which takes the place of ``path`` when it is
    complete; if anything stops that (an error, Ctrl-C), the old file is as it was and nothing is left over.
    """
    check_writable(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            for part in parts:
                file.write(part)
        # mkstemp makes a file that only its owner may read; a page is meant to be shared.
        os.chmod(name, 0o666 & ~_umask())
        size = os.path.getsize(name)
        os.replace(name, path)
    except OSError as error:
        _remove(name)
        raise LookError(f"cannot write {path}: {error.strerror or error}") from None
    except BaseException:
        _remove(name)
        raise
    return size


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _remove(name: str) -> None:
    if os.path.exists(name):
        os.unlink(name)

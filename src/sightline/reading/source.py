"""Where a text comes from: the argument itself, a file, or standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from sightline.reading.errors import InputError

_SUFFIXES = {
    ".txt",
    ".md",
    ".rst",
    ".tex",
    ".html",
    ".htm",
    ".csv",
    ".tsv",
    ".json",
    ".jsonl",
    ".log",
    ".pdf",
}


def read_source(argument: str) -> str:
    """The text that a command-line argument means: ``-`` is standard input, a file's path its text.

    Anything else is the text itself.

    Raises:
        InputError: the text is empty, the file cannot be read, or it is not UTF-8.
    """
    if argument == "-":
        text, where = _decode(sys.stdin.buffer.read(), "standard input"), "standard input"
    elif (path := _as_path(argument)) is not None:
        text, where = _read_file(path), str(path)
    else:
        text, where = argument, "the text"
    if not text.strip():
        raise InputError(f"{where} is empty: there is nothing to look at")
    return text


def _as_path(argument: str) -> Path | None:
    """``argument`` as a path when it is one, ``None`` when it is a literal text."""
    path = Path(argument)
    try:
        if path.is_file():
            return path
        if path.is_dir() and "/" in argument.replace("\\", "/"):
            raise InputError(f"{argument} is a folder; give a text, a text file, or - for standard input")
        exists = path.exists()
    except (OSError, ValueError):  # too long for a name, or a character that no name has: a text
        return None
    if not exists and _looks_like_a_path(argument, path):
        raise InputError(
            f"no such file: {argument} (a text that looks like a path is read from standard input, -)"
        )
    return path if exists and not path.is_dir() else None


def _looks_like_a_path(argument: str, path: Path) -> bool:
    """Whether nobody means this as a text, as "notes.txt": a mistyped path deserves no analysis."""
    if len(argument.split()) != 1:
        return False
    named = path.suffix.lower() in _SUFFIXES
    begins = argument.startswith(("/", "./", "../", "~/", "\\")) or path.is_absolute()
    return named or begins or (len(path.parts) > 1 and path.parent.is_dir())  # not "and/or"


def _read_file(path: Path) -> str:
    try:
        return _decode(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where} is not UTF-8 text (byte {error.start} is {data[error.start]:#04x})"
        ) from None

"""The open traces, and what the page knows of them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.common.errors import CommandError
from sightline.matrix import AttentionMatrix
from sightline.reading.errors import InputError
from sightline.reading.reading import Reading
from sightline.reading.tokens import Token
from sightline.reading.traced import reading_of
from sightline.tracing import load_trace
from sightline.tracing.calls import Calls
from sightline.tracing.parts import files_of
from sightline.view.about import Start, about, short_name, side_lists
from sightline.view.server.ran import Asked
from sightline.view.summary import Selection, summarize

#: Up to this many tokens every head is read to find the most selective one, which the page shows first.
TELLING = 512


class ServeError(CommandError):
    """``sightline serve`` cannot do what was asked."""


class OpenTrace:
    """One open trace. Its calls are the layers of its sections, numbered through.

    Attributes:
        id: its name in URLs; the same for the same file, so that a link outlives the server.
        title: what to call it.
        reading: its sections, tokens and all.
        calls: (section, layer in it) of each call.
        sides: the token lists; the page refers to them by their index.
        asked: how the model read it, if it did here: the trace can then be asked what if.
    """

    def __init__(self, reading: Reading, title: str, identity: str) -> None:
        self.id, self.title, self.reading = identity, title, reading
        self.calls = [(section, at) for section in reading.sections for at in range(len(section.layers))]
        self.sides: list[tuple[Token, ...]] = side_lists(reading)
        self.asked: Asked | None = None
        self._about: dict[str, Any] | None = None

    def matrix(self, call: int) -> AttentionMatrix:
        """[1,H,N,M] of a call."""
        section, at = self.calls[call]
        return section.layers[at]

    def summary(self) -> dict[str, Any]:
        """Its entry in the list of traces."""
        return {"id": self.id, "title": self.title, "model": short_name(self.reading.model)}

    def about(self) -> dict[str, Any]:
        """Everything but the numbers."""
        if self._about is None:
            told = about(self.reading, self.id, self.title, _start(self.reading))
            self._about = told | {"whatIf": None if self.asked is None else {"of": self.asked.of}}
        return self._about


def _start(reading: Reading) -> Start:
    """The most selective head of a short reading; of a long one the first, and the last ordinary query."""
    section = reading.section(None)
    last = next((token.index for token in reversed(section.queries) if not token.special), None)
    first = Start(section.name, query=last)
    if max(section.layers[0].shape[3] for section in reading.sections) > TELLING:
        return first
    try:
        summary = summarize(reading, Selection())
    except InputError:
        return first
    choice = summary.choice
    return Start(summary.units.name, choice.layer, choice.head, choice.query)


def open_files(paths: Sequence[Path], batch: int = 0) -> list[OpenTrace]:
    """Saved traces, memory-mapped.

    Raises:
        ServeError: a file is missing, damaged, or holds no attention.
    """
    opened: dict[Path, Path] = {}
    for path in paths:
        opened.setdefault(calls_file(path), path)
    return [open_file(path, path.name, batch) for path in opened.values()]


def calls_file(path: Path) -> Path:
    """The file that stands for a trace, the first where there are several parts."""
    try:
        return files_of(path)[0]
    except ValueError:  # a part is missing: who opens it says so
        return path


def open_file(path: Path, title: str, batch: int = 0, identity: str | None = None) -> OpenTrace:
    """A saved trace under the given title; its identity follows from the file unless given.

    Raises:
        ServeError: as for :func:`open_files`.
    """
    try:
        calls = load_trace(path)
        stat = calls_file(path).stat()
    except OSError as error:
        raise ServeError(f"cannot read {title}: {error.strerror or error}") from None
    except ValueError as error:
        raise ServeError(str(error).replace(str(path), title)) from None
    mark = f"{path.resolve()} {stat.st_mtime_ns} {stat.st_size} {batch}"
    return open_calls(calls, title, identity or hashlib.sha256(mark.encode()).hexdigest()[:12], batch)


def open_calls(calls: Calls, title: str, identity: str | None = None, batch: int = 0) -> OpenTrace:
    """A trace in memory.

    Raises:
        ServeError: it holds no attention, or not that batch entry.
    """
    try:
        reading = reading_of(calls, batch=batch, unverified=True)
    except InputError as error:
        raise ServeError(f"{title}: {error}") from None
    return open_reading(reading, title, identity)


def open_reading(reading: Reading, title: str, identity: str | None = None) -> OpenTrace:
    """What a model made of a text."""
    return OpenTrace(reading, title, identity or secrets.token_hex(6))

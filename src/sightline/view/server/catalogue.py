"""The traces that are open, and what the page is told about them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sightline.errors import CommandError
from sightline.measure.sources import CAVEAT
from sightline.trace import load_trace
from sightline.trace.call import AttentionCall
from sightline.trace.calls import Calls
from sightline.view.pyramid import TILE, coarse_level, top_level


class ServeError(CommandError):
    """``sightline serve`` cannot do what it was asked."""


class Open:
    """One open trace.

    Attributes:
        id: what addresses call it; the same for the same file, so that a link lives longer than a server.
        title: what to call it.
        calls: its attention calls.
        tokens: its tokens, or ``None``.
    """

    def __init__(self, calls: Calls, title: str, identity: str) -> None:
        self.id, self.title, self.calls, self.tokens = identity, title, calls, calls.tokens

    def summary(self) -> dict[str, Any]:
        """Name and size."""
        count = len(self.calls)
        return {"id": self.id, "title": self.title, "model": self.calls.model, "calls": count}

    def about(self) -> dict[str, Any]:
        """Everything but the numbers."""
        return self.summary() | {
            "tokens": None if self.tokens is None else len(self.tokens),
            "notices": self.calls.notices,
            "caveat": CAVEAT,
            "tile": TILE,
            "sections": _sections(self.calls),
            "layers": [self._layer(call) for call in self.calls],
        }

    def _layer(self, call: AttentionCall) -> dict[str, Any]:
        about: dict[str, Any] = {
            "index": call.index,
            "name": call.name,
            "kind": call.kind,
            "how": call.how,
            "verified": call.verified,
            "reason": call.reason,
            "shape": None if call.shape is None else list(call.shape),
        }
        if call.shape is not None and call.shape.numel():
            _, _, n, m = call.shape
            about |= {"top": top_level(n, m), "coarse": coarse_level(n, m)}
            length = about["tokens"] = None if self.tokens is None else len(self.tokens)
            about["names"] = {"query": n == length, "key": m == length}
        return about


def _sections(calls: Calls) -> list[dict[str, Any]]:
    """Neighbouring calls of one kind and shape, as the stacks of a model have them."""
    found: list[dict[str, Any]] = []
    for call in calls:
        shape = None if call.shape is None else list(call.shape[2:])
        if not found or (found[-1]["kind"], found[-1]["shape"]) != (call.kind, shape):
            found.append({"kind": call.kind, "shape": shape, "layers": []})
        found[-1]["layers"].append(call.index)
    return found


def open_files(paths: Sequence[Path]) -> list[Open]:
    """Saved traces, memory-mapped.

    Raises:
        ServeError: a file is missing, damaged, or holds no attention.
    """
    return [_open_file(path) for path in paths]


def _open_file(path: Path) -> Open:
    try:
        calls = load_trace(path)
        stat = path.stat()
    except OSError as error:
        raise ServeError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ServeError(str(error)) from None
    mark = f"{path.resolve()} {stat.st_mtime_ns} {stat.st_size}"
    return open_calls(calls, path.name, hashlib.sha256(mark.encode()).hexdigest()[:12])


def open_calls(calls: Calls, title: str, identity: str | None = None) -> Open:
    """A trace in memory.

    Raises:
        ServeError: it holds no attention.
    """
    if not any(call.shape is not None and call.shape.numel() for call in calls):
        raise ServeError(f"{title}: there is no attention in it to look at")
    return Open(calls, title, identity or secrets.token_hex(6))

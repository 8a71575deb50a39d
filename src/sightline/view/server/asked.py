"""What a request asks for, checked: every number in its bounds, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sightline.matrix import AttentionMatrix
from sightline.trace.call import AttentionCall
from sightline.view.server.blocks import select
from sightline.view.server.catalogue import Open


class RefusedError(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Head:
    """One head of one call of one trace, or the mean or maximum over its heads."""

    trace: Open
    call: AttentionCall
    batch: int
    head: int | str

    @property
    def key(self) -> tuple[str, int, int, int | str]:
        """What it is called in caches."""
        return self.trace.id, self.call.index, self.batch, self.head

    @property
    def matrix(self) -> AttentionMatrix:
        """[1,H,N,M], lazy."""
        return select(self.call.matrix, self.batch, self.head)

    @property
    def size(self) -> tuple[int, int]:
        """N, M."""
        _, _, n, m = self.call.matrix.shape
        return n, m


def find_trace(traces: Mapping[str, Open], name: str) -> Open:
    """The open trace of that id."""
    if name not in traces:
        raise RefusedError(404, "trace: no such trace is open here. The page may be of another server.")
    return traces[name]


def find_call(trace: Open, index: int) -> AttentionCall:
    """A call with a matrix."""
    if not 0 <= index < len(trace.calls):
        raise RefusedError(404, f"layer: must be from 0 to {len(trace.calls) - 1}, got {index}.")
    call = trace.calls[index]
    if call.shape is None or not call.shape.numel():
        raise RefusedError(404, f"layer {index}: has no attention matrix: {call.reason or 'it is empty'}.")
    return call


def find_head(trace: Open, index: int, query: Mapping[str, str]) -> Head:
    """The head that a request names by ``head`` (a number, "mean" or "max") and ``batch``."""
    call = find_call(trace, index)
    assert call.shape is not None
    b, h, _, _ = call.shape
    batch = integer(query, "batch", 0, b - 1, 0)
    text = query.get("head", "0")
    head = text if text in ("mean", "max") else integer(query, "head", 0, h - 1, 0)
    return Head(trace, call, batch, head)


def integer(query: Mapping[str, str], name: str, least: int, most: int, otherwise: int | None = None) -> int:
    """An integer of the request from ``least`` to ``most``."""
    text = query.get(name)
    if text is None and otherwise is not None:
        return otherwise
    sound = text is not None and len(text) < 16 and text.isascii() and text.removeprefix("-").isdigit()
    if not sound or not least <= int(text or "") <= most:
        raise RefusedError(
            400, f"{name}: must be an integer from {least} to {most}, got {(text or '')[:40]!r}."
        )
    return int(text or "")


def word(query: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    """One of a few words; the first by default."""
    found = query.get(name, allowed[0])
    if found not in allowed:
        raise RefusedError(400, f"{name}: must be {' or '.join(allowed)}, got {found[:40]!r}.")
    return found

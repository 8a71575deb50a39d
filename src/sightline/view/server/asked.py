"""The parameters of a request, each checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sightline.matrix import AttentionMatrix
from sightline.view.server.blocks import select
from sightline.view.server.catalogue import OpenTrace


class RefusedError(Exception):
    """A request that is refused, with a status and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Head:
    """One head of one call of one trace, or the mean or maximum over its heads."""

    trace: OpenTrace
    call: int
    head: int | str

    @property
    def key(self) -> tuple[str, int, int | str]:
        """Its key in caches."""
        return self.trace.id, self.call, self.head

    @property
    def layer(self) -> AttentionMatrix:
        """[1,H,N,M] with all heads, lazy."""
        return self.trace.matrix(self.call)

    @property
    def matrix(self) -> AttentionMatrix:
        """[1,H,N,M], lazy: the one head, or all of them for the mean or maximum."""
        return select(self.layer, self.head)

    @property
    def size(self) -> tuple[int, int]:
        """N, M."""
        _, _, n, m = self.layer.shape
        return n, m


def find_trace(traces: Mapping[str, OpenTrace], name: str) -> OpenTrace:
    """The open trace of that id."""
    if name not in traces:
        raise RefusedError(404, "trace: no such trace is open here. The page may belong to another server.")
    return traces[name]


def find_head(trace: OpenTrace, call: int, query: Mapping[str, str]) -> Head:
    """The head that a request names by ``head``: a number, "mean" or "max"."""
    if not 0 <= call < len(trace.calls):
        raise RefusedError(404, f"layer: must be from 0 to {len(trace.calls) - 1}, got {call}.")
    heads = trace.matrix(call).shape[1]
    text = query.get("head", "0")
    return Head(trace, call, text if text in ("mean", "max") else integer(query, "head", 0, heads - 1, 0))


def integer(query: Mapping[str, str], name: str, least: int, most: int, otherwise: int | None = None) -> int:
    """An integer parameter of the request, from ``least`` to ``most``."""
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
    """A parameter that is one of a few words; the first is the default."""
    value = query.get(name, allowed[0])
    if value not in allowed:
        raise RefusedError(400, f"{name}: must be {' or '.join(allowed)}, got {value[:40]!r}.")
    return value

"""How the model read the text of a trace, so that it can read it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sightline.reading.outcome import Outcome


class Ran(NamedTuple):
    """How the model ran over a text: the arguments of its last call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass
class Asked:
    """A trace that can be asked what if.

    Attributes:
        text, pair: what was read, and the target of an encoder-decoder.
        ran: how.
        of: the trace that this one is a change of.
        before: what is known of the run without changes.
    """

    text: str
    pair: str | None
    ran: Ran
    of: str | None = None
    before: Before | None = None


@dataclass(frozen=True)
class Before:
    """The run without changes: what came out, and the layers of each section as ``intervene`` counts them."""

    outcome: Outcome
    layers: Mapping[str, Sequence[int]]

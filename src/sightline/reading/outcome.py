"""What a model makes of a text besides attention: what it writes, and how likely it finds the next words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from sightline.reading.pieces import text_of, visible
from sightline.removing.question import Question

#: Candidates that are told of each place, and the most places that are told.
CANDIDATES, PLACES = 10, 256


class Outcome(NamedTuple):
    """An output that can be read.

    Attributes:
        about: what the candidates are: "next word", "word here" or "label"; empty where there are none.
        places: the positions of the text to which the candidates belong; none if they are about all of it.
        candidates: for each place, or once, the likeliest first: (text, probability).
        text: what the model writes by itself; None where it writes nothing.
    """

    about: str = ""
    places: tuple[int, ...] = ()
    candidates: tuple[tuple[tuple[str, float], ...], ...] = ()
    text: str | None = None

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "about": self.about,
            "places": list(self.places),
            "candidates": [[list(pair) for pair in each] for each in self.candidates],
            "text": self.text,
        }


class Answering(Protocol):
    """A model with the head that gives answers.

    Attributes:
        model: the module that runs.
    """

    model: nn.Module

    def outcome(self, output: Any) -> Outcome:
        """What an output of the model says, without a text."""

    def question(self, text: str, target: str | None = None) -> Question:
        """What :func:`sightline.effects` asks of a text.

        Raises:
            CommandError: the model has no answer that is a number.
        """

    def write(self, text: str) -> str | None:
        """What it writes for a text; None where it writes nothing."""


def word_of(piece: str, byte_level: bool) -> str:
    """A piece of a vocabulary as it is written after others: with its blank before it."""
    text = text_of(piece, byte_level)
    label = visible(text)
    return f" {label}" if text[:1] == " " and text.strip() else label


def outcome_of_logits(
    logits: Tensor | None, about: str, name_of: Callable[[int], str], *, last: int | None = None
) -> Outcome:
    """The likeliest of what logits are about: [1,K] of labels, [1,N,V] of words at each position.

    Args:
        last: how many positions, from the end, are told of. Default: ``PLACES``.
    """
    if logits is None or logits.dim() not in (2, 3) or logits.shape[-1] < 2:
        return Outcome()
    rows = logits[0].double() if logits.dim() == 3 else logits.double()
    first = max(0, rows.shape[0] - (PLACES if last is None else last))
    top = rows[first:].softmax(-1).topk(min(CANDIDATES, rows.shape[-1]), -1)
    candidates = tuple(
        _named(values, places, name_of) for values, places in zip(*map(Tensor.tolist, top), strict=True)
    )
    return Outcome(about, tuple(range(first, rows.shape[0])) if logits.dim() == 3 else (), candidates)


def _named(
    values: Sequence[float], places: Sequence[int], name_of: Callable[[int], str]
) -> tuple[tuple[str, float], ...]:
    return tuple((name_of(place), value) for place, value in zip(places, values, strict=True))

"""What a model made of its input: the text that it wrote, its label, the tokens that it expects next."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

WROTE = "no target given: the model wrote one itself"
"""How the notice begins where an output tells the same."""

CHOICES = 5
"""Labels or tokens that are told at most."""


@dataclass(frozen=True)
class Output:
    """What came out of a model, as a person reads it.

    Attributes:
        kind: "text" for one that was written, "label" for a choice among labels, "next" for the next token.
        name: what it is called: translation, summary, transcript, label, next token.
        text: the text itself, or the likeliest choice.
        given: whether it was handed in, and the model only read it.
        choices: (text, probability), the likeliest first; none for a text.
        after: the end of what was read, where the next token follows it.
    """

    kind: str
    name: str
    text: str
    given: bool = False
    choices: tuple[tuple[str, float], ...] = ()
    after: str = ""


def written(name: str, text: str, given: bool = False) -> Output:
    """A text that the model wrote, or that was given for it."""
    return Output("text", name, text, given)


def likeliest(kind: str, name: str, probabilities: Tensor, names: list[str] | None = None) -> Output:
    """The likeliest of labels or tokens.

    Args:
        probabilities: [C].
        names: of all of them. Default: their numbers.
    """
    best = probabilities.double().topk(min(CHOICES, len(probabilities)))
    places: list[int] = best.indices.tolist()
    choices = tuple(
        (str(at) if names is None else names[at], share)
        for at, share in zip(places, best.values.tolist(), strict=True)
    )
    return Output(kind, name, choices[0][0], choices=choices)

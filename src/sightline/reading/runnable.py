"""A text model with all that is needed to run it elsewhere: what it takes, what it gives, how it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sightline.models import Model

Answer = Literal["text", "continuation", "label", "states"]


@dataclass(frozen=True)
class Runnable:
    """A model of ``sightline.models`` with its tokenizer, and what it is for.

    Attributes:
        model: an Encoder, a Decoder or an EncoderDecoder, in eval mode.
        tokenizer: a ``tokenizers.Tokenizer``.
        name: what to call the model.
        answer: what it gives for a text: another "text", a "continuation", a "label", or "states" alone.
        called: what the answer is called: "translation", "summary", "continuation", "label".
        context: tokens that it reads at most; ``None`` for no limit.
        labels: names of the classes.
        beams, length_penalty, no_repeat, new_tokens: how it writes, as ``generate`` takes them.
        example: a text to begin with.
    """

    model: Model
    tokenizer: Any
    name: str
    answer: Answer
    called: str
    context: int | None = None
    labels: tuple[str, ...] = ()
    beams: int = 1
    length_penalty: float = 1.0
    no_repeat: int | None = None
    new_tokens: int = 100
    example: str = "The cat sat on the mat."

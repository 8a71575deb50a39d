"""The protocol of a model that reads texts, whoever made it."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from sightline.reading.outcome import Answering
from sightline.reading.reading import Reading


class OpenedModel(Protocol):
    """A model that reads texts: one of Transformers (``published``), or one that a task trained.

    Attributes:
        name: what to call it in output.
        model: the module that runs.
        encoder_decoder: whether it reads a source and a target.
    """

    name: str
    model: nn.Module
    encoder_decoder: bool

    def read(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> Reading:
        """Run it over a text, and a pair or a target, and keep its attention matrices.

        Raises:
            CommandError: the model does not accept the text.
        """

    def answering(self) -> Answering:
        """The same with the head that gives answers; its attention runs in the same order.

        Raises:
            CommandError: the model does not load with it.
        """

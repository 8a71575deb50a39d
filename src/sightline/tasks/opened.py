"""A trained model of a task as one that reads texts."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from sightline.models import Decoder, EncoderDecoder
from sightline.reading.errors import InputError
from sightline.reading.outcome import Outcome, outcome_of_logits, word_of
from sightline.reading.pieces import are_byte_level
from sightline.reading.reading import Reading
from sightline.reading.runnable import Runnable
from sightline.removing.question import Question
from sightline.tasks.looking import reading_of_seen
from sightline.tasks.registry import load_task
from sightline.tasks.task import LookOptions

#: How many tokens a model of language goes on with.
_CONTINUED = 40


class TaskModel:
    """A model that ``sightline train`` made, as a :class:`sightline.reading.opened.OpenedModel`."""

    def __init__(self, folder: Path, name: str, device: torch.device | None = None) -> None:
        self.name = name
        self.task, self.model, self.recipe = load_task(folder, device=device)
        self.encoder_decoder = isinstance(self.model, EncoderDecoder)
        if not self.task.tokenized:
            raise InputError(
                f"a model of {self.task.name} reads no texts; sightline run {folder.name} FILE --look PAGE "
                f"shows what it attends to"
            )

    def question(self, text: str, target: str | None = None) -> Question:
        """What :func:`sightline.effects` asks of a text."""
        return self.task.question(self.model, text, self.recipe, target)

    def runnable(self) -> Runnable:
        """The model as a page runs it."""
        return self.task.runnable(self.model, self.recipe, self.name)

    def read(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> Reading:
        """See :class:`OpenedModel`."""
        seen = self.task.look(self.model, text, self.recipe, LookOptions(pair, max_tokens))
        return reading_of_seen(seen, self.name, self.task.tokenizer.get_vocab(), self.task.labels)

    def answering(self) -> TaskModel:
        """See :class:`OpenedModel`."""
        return self

    def outcome(self, output: Any) -> Outcome:
        """See :class:`sightline.reading.outcome.Answering`."""
        if self.task.labels:
            return outcome_of_logits(output, "label", lambda at: self.task.labels[at])
        return outcome_of_logits(output, "next word", self._word)

    def write(self, text: str) -> str | None:
        """See :class:`sightline.reading.outcome.Answering`."""
        options = {"truncation": True}
        with torch.no_grad():
            if self.encoder_decoder:
                (answer,) = self.task.answers(self.model, [text], self.recipe, options)
                return str(next(iter(answer.values())))
            ids = self.task.tokenizer.encode(text).ids
            if not isinstance(self.model, Decoder) or len(ids) > self.recipe.context:
                return None  # of a longer text only the end is read, where positions are others
            (written,) = self.model.generate(
                torch.tensor([ids], device=self.model.device), new_tokens=_CONTINUED
            ).lists()
        return str(self.task.tokenizer.decode(written, skip_special_tokens=True))

    def _word(self, at: int) -> str:
        return word_of(self.task.tokenizer.id_to_token(at), self._spells_bytes)

    @cached_property
    def _spells_bytes(self) -> bool:
        return are_byte_level(self.task.tokenizer.get_vocab()) or "\u0120" in self.task.tokenizer.get_vocab()

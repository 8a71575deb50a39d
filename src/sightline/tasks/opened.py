"""A trained model of a task as one that reads texts."""

from __future__ import annotations

from pathlib import Path

from sightline.models import EncoderDecoder
from sightline.reading.errors import InputError
from sightline.reading.reading import Reading
from sightline.removing.question import Question
from sightline.tasks.looking import reading_of_seen
from sightline.tasks.registry import load_task
from sightline.tasks.task import LookOptions


class TaskModel:
    """A model that ``sightline train`` made, as a :class:`sightline.reading.opened.OpenedModel`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.task, self.model, self.recipe = load_task(folder)
        self.encoder_decoder = isinstance(self.model, EncoderDecoder)
        if not self.task.tokenized:
            raise InputError(
                f"a model of {self.task.name} reads no texts; sightline run {folder.name} FILE --look PAGE "
                f"shows what it attends to"
            )

    def question(self, text: str, target: str | None = None) -> Question:
        """What :func:`sightline.effects` asks of a text."""
        return self.task.question(self.model, text, self.recipe, target)

    def read(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> Reading:
        """See :class:`OpenedModel`."""
        seen = self.task.look(self.model, text, self.recipe, LookOptions(pair, max_tokens))
        return reading_of_seen(seen, self.name, self.task.tokenizer.get_vocab())

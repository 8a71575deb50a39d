"""A model that reads texts for a view, whoever made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from sightline.view.errors import LookError
from sightline.view.reading import Reading, read

DEFAULT = "translation"
"""The task whose model, of those that come with Sightline, reads where none is named."""


class OpenedModel(Protocol):
    """What a view needs of a model."""

    name: str
    model: Any
    encoder_decoder: bool

    def read(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> Reading:
        """Run it over a text, and a pair or a target, and keep its attention matrices.

        Raises:
            CommandError: it does not take the text.
        """


def open_model(name: str | None) -> OpenedModel:
    """Of a folder (Sightline's or Transformers'), a task with a model in the box, or a Hugging Face name.

    Raises:
        CommandError: there is no such model, or it does not load.
    """
    from sightline.tasks.box import box_folder, boxed
    from sightline.tasks.registry import FILE

    name = name or DEFAULT
    folder = Path(name).expanduser()
    if (folder / FILE).is_file():
        return TaskModel(folder, name)
    if name in boxed() and not folder.exists():
        return TaskModel(box_folder(name), f"Sightline's model for {name}")
    return PublishedModel(name)


class PublishedModel:
    """A model of Hugging Face's Transformers."""

    def __init__(self, name: str) -> None:
        from sightline.huggingface.load import load_model

        self._loaded = load_model(name)
        self.name, self.model = self._loaded.name, self._loaded.model
        self.encoder_decoder = self._loaded.encoder_decoder

    def read(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> Reading:
        """See :class:`OpenedModel`."""
        return read(self._loaded, text, pair, max_tokens)


class TaskModel:
    """A model that ``sightline train`` made."""

    def __init__(self, folder: Path, name: str) -> None:
        from sightline.models import EncoderDecoder
        from sightline.tasks.registry import load_task

        self.name = name
        self.task, self.model, self.recipe = load_task(folder)
        self.encoder_decoder = isinstance(self.model, EncoderDecoder)
        if not self.task.tokenized:
            raise LookError(
                f"a model of {self.task.name} reads no texts; sightline run {folder.name} FILE --look PAGE "
                f"shows what it attends to"
            )

    def read(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> Reading:
        """See :class:`OpenedModel`."""
        from sightline.tasks.looking import reading_of_seen
        from sightline.tasks.task import Wish

        seen = self.task.look(self.model, text, self.recipe, Wish(pair, max_tokens))
        return reading_of_seen(seen, self.name)

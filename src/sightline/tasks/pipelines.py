"""Answers of trained models, in the form of Hugging Face's pipelines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from sightline.common import slots
from sightline.common.check import path as check_path
from sightline.common.devices import device_named
from sightline.common.errors import CommandError
from sightline.removing.question import Question
from sightline.tasks.box import box_folder, boxed
from sightline.tasks.looking import reading_of_seen
from sightline.tasks.registry import TASKS, find_task, load_task
from sightline.tasks.task import LookOptions

_BATCH = 32


class Pipeline:
    """A trained model that answers; made by :func:`pipeline`."""

    def __init__(self, folder: Path, task: str | None, device: str | torch.device = "cpu") -> None:
        self.name, self.device = str(folder), device_named(device)
        self.task, self.model, self.recipe = load_task(folder, task, self.device)

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """An answer for each input, as the task gives them: {"label", "score"}, {"translation_text"},
        {"summary_text"}, {"generated_text"}, or {"text"} of speech; of an image a list of {"label", "score"},
        best first.

        Args:
            inputs: a text, or a list of them; of images a path or an image of Pillow; of speech a path,
                (samples, rate), or a dictionary with these. One image or recording is answered alone.
            **options: of images ``top_k``, how many labels are given (5); ``new_tokens``; of generation
                ``temperature``, ``top_k``, ``top_p`` and ``generator``; of translation and summarization
                ``truncation``, to read only the beginning of longer texts; of translation ``alignment``, to
                get "alignment", too: (word of the source, word of the translation, weight); of speech
                ``greedy``, ``beams``, ``weight`` and ``bonus``.

        Raises:
            CommandError: for an empty text, or a source longer than the model's context; a longer text is
                read in windows by sentiment, and from its end by generation.
        """
        alone = not isinstance(inputs, list)
        answers = list(self.stream([inputs] if alone else inputs, **options))
        return self.task.together(answers, alone)

    def question(self, given: Any, target: str | None = None) -> Question:
        """What :func:`sightline.effects` asks of an input: the answer to it, as a number.

        Args:
            given: a text.
            target: another answer to ask about: a label, or the text that is to be written.

        Raises:
            CommandError: for a task whose answer is no number.
        """
        return self.task.question(self.model, given, self.recipe, target)

    def page(self, path: str | Path, text: str | None = None) -> int:
        """Writes a page in one file that runs the model: what is typed into it is answered and shown.

        The page carries weights and tokenizer, exactly, and needs no network; see ``sightline page``.

        Args:
            path: of the page; the file is replaced when all of it is there.
            text: what it opens with. Default: an example of the task.

        Returns:
            Bytes of the page.

        Raises:
            CommandError: for a task whose inputs are no texts, a model whose weights take more than 40 MB, a
                text without a token that it knows, or a path that cannot be written.

        Example:
            >>> import pathlib, sightline, tempfile
            >>> path = pathlib.Path(tempfile.mkdtemp()) / "page.html"
            >>> 3 < sightline.pipeline("sentiment").page(path, "A warm and funny film.") / 1e6 < 8
            True
        """
        runnable = self.task.runnable(self.model, self.recipe, self.name)
        given = runnable.example if text is None else text
        self.task.check(given, 0)
        seen = self.task.look(self.model, given, self.recipe, LookOptions())
        reading = reading_of_seen(seen, self.name, self.task.tokenizer.get_vocab())
        return slots.live_page(reading, runnable, check_path("path", path))

    def stream(self, given: Sequence[Any], **options: Any) -> Iterator[Any]:
        """An answer for each input, as soon as its batch is computed; arguments and errors as for a call."""
        for at, each in enumerate(given):
            self.task.check(each, at)
        for start in range(0, len(given), _BATCH):
            with torch.no_grad():
                answers = self.task.answers(self.model, given[start : start + _BATCH], self.recipe, options)
            yield from answers


def pipeline(task: str, model: str | Path | None = None, device: str | torch.device = "auto") -> Pipeline:
    """A trained model that answers as a Hugging Face pipeline of that kind does.

    Args:
        task: "sentiment", "translation", "summarization", "generation", "image-classification" or
            "speech-recognition".
        model: the folder of a model that ``sightline train`` made. Default: the one that comes with
            Sightline.
        device: where it runs: "auto" (CUDA where it is, else the CPU), "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        CommandError: for a device that is not there, an unknown task, one without a model, or a folder
            without one of that task.

    Example:
        >>> import sightline
        >>> pipeline = sightline.pipeline("sentiment")
        >>> sorted(pipeline("A warm and funny film.")[0])
        ['label', 'score']
    """
    find_task(task)
    return Pipeline(box_folder(task) if model is None else check_path("model", model), task, device)


def open_pipeline(name: str, device: str | torch.device = "cpu") -> Pipeline:
    """The pipeline of a model's folder, or of a task whose model comes with Sightline.

    Raises:
        CommandError: there is no such model.
    """
    folder = Path(name)
    if not folder.exists():
        if name not in TASKS:
            raise CommandError(
                f"there is no folder {name!r}, and no task of that name; models of {', '.join(boxed())} "
                f"come with Sightline"
            )
        folder = box_folder(name)
    return Pipeline(folder, None, device)

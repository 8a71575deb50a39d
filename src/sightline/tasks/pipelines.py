"""Answers of trained models, in the form in which Hugging Face's pipelines give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sightline.errors import CommandError
from sightline.tasks.language import Language
from sightline.tasks.pairs import Pairs, Translation
from sightline.tasks.registry import find_task, load_task
from sightline.tasks.sentiment import Sentiment
from sightline.tasks.task import padded

_BATCH = 32


class Pipeline:
    """A trained model that answers; made by :func:`pipeline`."""

    def __init__(self, folder: Path, task: str | None) -> None:
        self.task, self.model, self.recipe = load_task(folder, task)

    def __call__(self, inputs: str | Sequence[str], **options: Any) -> list[dict[str, Any]]:
        """A dictionary for each input: {"label", "score"}, {"translation_text"}, {"summary_text"} or
        {"generated_text"}.

        Args:
            inputs: a text, or several.
            **options: ``new_tokens``; of generation ``temperature``, ``top_k``, ``top_p`` and ``generator``;
                of translation and summarization ``truncation``, to read only the beginning of longer texts.

        Raises:
            CommandError: for an empty text, or a source longer than the model's context; a longer text is
                read in windows by sentiment, and from its end by generation.
        """
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        for at, text in enumerate(texts):
            if not text.strip():
                raise CommandError(f"input {at} is empty")
        found: list[dict[str, Any]] = []
        with torch.no_grad():
            for start in range(0, len(texts), _BATCH):
                found += self._answers(texts[start : start + _BATCH], options)
        return found

    def _answers(self, texts: list[str], options: dict[str, Any]) -> list[dict[str, Any]]:
        if isinstance(self.task, Sentiment):
            return self._labels(self.task, texts)
        if isinstance(self.task, Pairs):
            name = "translation_text" if isinstance(self.task, Translation) else "summary_text"
            sources = self._sources(self.task, texts, options.get("truncation", False))
            written = self.task.write(self.model, sources, options.get("new_tokens", self.recipe.context - 1))
            return [{name: text} for text in written]
        assert isinstance(self.task, Language)
        return [{"generated_text": self._goes_on(text, options)} for text in texts]

    def _labels(self, task: Sentiment, texts: list[str]) -> list[dict[str, Any]]:
        """Of a text past the context each window is read, and each counts by its tokens."""
        windows = [task.windows_of(text, self.recipe.context) for text in texts]
        ids, lengths = padded([window for each in windows for window in each], 0)
        scores = self.model(ids, lengths=lengths).softmax(-1)
        of_texts = [len(each) for each in windows]
        weighed = (scores * lengths[:, None]).split(of_texts)
        found = []
        for part, own in zip(weighed, lengths.split(of_texts), strict=True):
            score, at = (part.sum(0) / own.sum()).max(0)
            found.append({"label": task.labels[int(at)], "score": float(score)})
        return found

    def _sources(self, task: Pairs, texts: list[str], truncation: bool) -> list[list[int]]:
        context = self.recipe.context
        for text in texts:
            size = len(task.tokenizer.encode(text).ids) + 1
            if size > context and not truncation:
                raise CommandError(
                    f"input {_start(text)!r} has {size} tokens, and the model reads {context}; split it, or "
                    f"truncation=True (--truncate) reads its beginning"
                )
        return [task.ids_of(text, context) for text in texts]

    def _goes_on(self, text: str, options: dict[str, Any]) -> str:
        ids = torch.tensor([self.task.tokenizer.encode(text).ids])
        # What is further back than the context was never learnt from.
        known = ids[:, -self.recipe.context :]
        chosen = {name: value for name, value in options.items() if name != "truncation"}
        found = self.model.generate(known, **{"new_tokens": 100, **chosen})
        written: str = self.task.tokenizer.decode(found.lists()[0], skip_special_tokens=True)
        return text + written


def _start(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"


def pipeline(task: str, model: str | Path | None = None) -> Pipeline:
    """A trained model that answers as a Hugging Face pipeline of that kind does.

    Args:
        task: "sentiment", "translation", "summarization" or "generation".
        model: the folder of a model that ``sightline train`` made.

    Raises:
        CommandError: for an unknown task, no model, or a folder without one of that task.
    """
    find_task(task)
    if model is None:
        raise CommandError(
            f"pipeline: give the folder of a model: sightline train {task} --data ... makes one"
        )
    return Pipeline(Path(model), task)

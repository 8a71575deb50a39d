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
            **options: of generation: ``new_tokens``, ``temperature``, ``top_k``, ``top_p``, ``generator``.

        Raises:
            CommandError: for an empty text.
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
            sources = [self.task.ids_of(text, self.recipe.context) for text in texts]
            written = self.task.write(self.model, sources, options.get("new_tokens", self.recipe.context - 1))
            return [{name: text} for text in written]
        assert isinstance(self.task, Language)
        return [{"generated_text": self._goes_on(text, options)} for text in texts]

    def _labels(self, task: Sentiment, texts: list[str]) -> list[dict[str, Any]]:
        ids, lengths = padded([task.ids_of(text, self.recipe.context) for text in texts], 0)
        scores = self.model(ids, lengths=lengths).softmax(-1)
        best = scores.max(1)
        return [
            {"label": task.labels[at], "score": score}
            for at, score in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _goes_on(self, text: str, options: dict[str, Any]) -> str:
        ids = torch.tensor([self.task.tokenizer.encode(text).ids])
        # What is further back than the context was never learnt from.
        known = ids[:, -self.recipe.context :]
        found = self.model.generate(known, **{"new_tokens": 100, **options})
        written: str = self.task.tokenizer.decode(found.lists()[0], skip_special_tokens=True)
        return text + written


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

"""What a model attended to while it answered: the explorer's page of one input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import sightline
from sightline.tasks.pairs import Pairs
from sightline.tasks.sentiment import Sentiment


def write_page(pipe: Any, text: str, path: Path) -> int:
    """Writes the page, with the answer; returns its bytes."""
    task, model, context = pipe.task, pipe.model, pipe.recipe.context
    names = task.tokenizer.id_to_token
    if isinstance(task, Pairs):
        source = task.ids_of(text, context)
        with torch.no_grad():
            found = model.generate(torch.tensor([source]), new_tokens=context - 1, beams=task.beams)
        return _pair_page(task, model, source, [model.config.start, *found.lists()[0]], text, path)
    ids = (
        task.ids_of(text, context)
        if isinstance(task, Sentiment)
        else task.tokenizer.encode(text).ids[-context:]
    )
    with torch.no_grad(), sightline.trace(model) as trace:
        model(torch.tensor([ids]))
    return int(trace.report(path, title=text, tokens=[names(i) for i in ids]))


def _pair_page(task: Any, model: Any, source: list[int], given: list[int], text: str, path: Path) -> int:
    names = task.tokenizer.id_to_token
    with torch.no_grad(), sightline.trace(model) as trace:
        model(torch.tensor([source]), torch.tensor([given]))
    tokens = [[names(i) for i in ids] for ids in (source, given)]
    answer = task.tokenizer.decode(given, skip_special_tokens=True)
    return int(trace.report(path, title=f"{text} → {answer}", tokens=tokens))

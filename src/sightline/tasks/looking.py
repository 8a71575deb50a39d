"""What a model attended to while it answered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import sightline
from sightline.common.atomic import write_atomically
from sightline.common.errors import CommandError
from sightline.tasks.task import Seen, Wish
from sightline.view.reading import Reading
from sightline.view.report import report_parts
from sightline.view.summary import Wish as Choice
from sightline.view.summary import summarize
from sightline.view.traced import reading_of


def look_at(model: Any, tokenizer: Any, *sides: list[int]) -> tuple[Any, list[list[str]]]:
    """The trace of a model over its ids, source and target if it takes both, and their tokens' strings."""
    with torch.no_grad(), sightline.trace(model) as trace:
        model(*(torch.tensor([ids]) for ids in sides))
    return trace, [[tokenizer.id_to_token(i) for i in ids] for ids in sides]


def shortened(ids: list[int], limit: int | None, what: str, whose: str) -> tuple[list[int], tuple[str, ...]]:
    """(the first ids, what is said of the others).

    Raises:
        CommandError: there is none.
    """
    if not ids:
        raise CommandError(f"{what} has no token that the model knows: there is nothing to look at")
    if limit is None or len(ids) <= limit:
        return ids, ()
    dropped = len(ids) - limit
    return ids[:limit], (
        f"{what} has {len(ids)} tokens; {whose} is {limit}: the last {dropped} were dropped",
    )


def limit_of(context: int, wish: Wish) -> tuple[int, str]:
    """(how many tokens of a text count, whose limit that is)."""
    if wish.limit is not None and wish.limit < context:
        return wish.limit, "--max-tokens"
    return context, "the model's limit"


def reading_of_seen(seen: Seen, name: str) -> Reading:
    """As views take it; ``name`` is the model's.

    Raises:
        CommandError: there is nothing to show, or it is too long for a page.
    """
    reading = reading_of(seen.trace, tokens=seen.tokens)
    return replace(reading, model=name, texts=seen.texts, notices=(*seen.notices, *reading.notices))


def write_page(seen: Seen, name: str, path: Path) -> int:
    """Writes the explorer's page; returns its bytes."""
    return write_atomically(path, report_parts(summarize(reading_of_seen(seen, name), Choice())))

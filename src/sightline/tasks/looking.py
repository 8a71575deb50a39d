"""What a model attended to while it answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from sightline.attribution.lens.asked import can_be_read
from sightline.common.errors import CommandError
from sightline.reading.lens import names_of_labels, names_of_vocabulary
from sightline.reading.reading import Reading
from sightline.reading.tokens import tokens_of_strings
from sightline.reading.traced import reading_of
from sightline.reading.unknown import unknown_notices
from sightline.tasks.task import LookOptions, Seen
from sightline.tracing import trace


def look_at(model: Any, tokenizer: Any, *sides: list[int]) -> tuple[Any, list[list[str]], Any]:
    """The trace of a model over its ids, source and target if it takes both; their tokens; what it gave."""
    with torch.no_grad(), trace(model, residual=can_be_read(model, len(sides[-1]))) as calls:
        output = model(*(torch.tensor([ids]) for ids in sides))
    return calls, [[tokenizer.id_to_token(i) for i in ids] for ids in sides], output


def shortened(ids: list[int], limit: int | None, what: str, whose: str) -> tuple[list[int], tuple[str, ...]]:
    """(the first ids, a notice about the others).

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


def unknown_in(tokenizer: Any, texts: Sequence[str]) -> str | None:
    """What to tell, once, of texts that the model does not know."""
    vocabulary = tokenizer.get_vocab()
    notices: list[str] = []
    for text in texts:
        name = "the text" if len(texts) == 1 else f"{text[:40]!r}"
        notices += unknown_notices([(name, tokens_of_strings(tokenizer.encode(text).tokens))], vocabulary)
    if not notices:
        return None
    others = len(notices) - 1
    return notices[0] + (
        f" (nor much of {others} more {'text' if others == 1 else 'texts'})" if others else ""
    )


def limit_of(context: int, options: LookOptions) -> tuple[int, str]:
    """(how many tokens of a text count, whose limit that is)."""
    if options.limit is not None and options.limit < context:
        return options.limit, "--max-tokens"
    return context, "the model's limit"


def reading_of_seen(
    seen: Seen, name: str, vocabulary: Mapping[str, int] | None = None, labels: Sequence[str] = ()
) -> Reading:
    """What a model attended to, as views take it.

    Args:
        seen: what was seen.
        name: the model's.
        vocabulary: the ids of all pieces that it knows.
        labels: that it chooses among.

    Raises:
        CommandError: there is nothing to show.
    """
    reading = reading_of(seen.trace, tokens=seen.tokens, vocabulary=vocabulary or ())
    lens = reading.lens
    if lens is not None and lens.stream.reads == "labels":
        lens = replace(lens, names=names_of_labels(labels))
    elif lens is not None and vocabulary is not None:
        lens = replace(lens, names=names_of_vocabulary(vocabulary))
    notices = (*seen.notices, *reading.notices)
    return replace(reading, model=name, texts=seen.texts, notices=notices, output=seen.output, lens=lens)

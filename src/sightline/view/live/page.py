"""A page that runs the model: what it reads can be typed into it, without a server and without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sightline.common.atomic import write_atomically
from sightline.common.errors import CommandError
from sightline.reading.reading import Reading
from sightline.reading.runnable import Runnable
from sightline.view.live.packing import packed
from sightline.view.live.supported import check_supported
from sightline.view.live.tokenizing import tokenizer_parts
from sightline.view.modules import inline
from sightline.view.report import report_parts, script_json
from sightline.view.summary import Selection, summarize

LONGEST = 512
"""Tokens of a text that a page takes at most: more would take a browser seconds."""


def write_page(reading: Reading, runnable: Runnable, path: Path, selection: Selection | None = None) -> int:
    """Writes a page that opens with a reading and runs its model over whatever is typed; its size in bytes.

    Args:
        reading: what the page shows first.
        runnable: the model.
        path: of the page; the file is replaced when all of it is there.
        selection: the section, layer and head that are shown first. Default: the most telling.

    Raises:
        CommandError: the model cannot run in a page, takes more than ``WEIGHTS_LIMIT``, or the page cannot be
            written.
    """
    model = live_parts(runnable)  # refused before anything is read
    summary = summarize(reading, selection or Selection())
    return write_atomically(path, report_parts(summary, more=model))


def live_parts(runnable: Runnable) -> Iterator[str]:
    """The elements that a page carries besides its own, to run the model.

    Raises:
        CommandError: the model cannot run in a page, or takes more than ``WEIGHTS_LIMIT``.
    """
    model = check_supported(runnable.model)
    tokenizer = tokenizer_parts(runnable.tokenizer)
    _check_ids(runnable)
    weights = packed(model)
    blocks = [
        {"id": f"sightline-weights-{at}", "kind": each["kind"], "count": each["count"]}
        for at, each in enumerate(weights.blocks)
    ]
    described = {
        "model": type(model).__name__,
        "config": model.config.to_dict(),
        "task": task_of(runnable),
        "weights": {"blocks": blocks, "tensors": weights.tensors},
        "tokenizer": "sightline-tokenizer",
    }
    texts = {block["id"]: each["text"] for block, each in zip(blocks, weights.blocks, strict=True)}
    return _parts(described, texts, tokenizer)


def _parts(described: dict[str, Any], texts: dict[str, str], tokenizer: Any) -> Iterator[str]:
    for name, value in (("sightline-live", described), ("sightline-tokenizer", tokenizer)):
        yield f'<script type="application/json" id="{name}">{script_json(value)}</script>\n'
    for name, text in texts.items():
        yield f'<script type="text/plain" id="{name}">{text}</script>\n'
    yield f'<script type="text/plain" id="sightline-live-worker">\n{inline("live/worker.js")}</script>\n'


def task_of(runnable: Runnable) -> dict[str, Any]:
    """What the page's runtime must know of a task: LiveTask of web/live/tasks.js."""
    return {
        "answer": runnable.answer,
        "name": runnable.called,
        "context": runnable.context,
        "limit": LONGEST,
        "writing": {
            "newTokens": runnable.new_tokens,
            "beams": runnable.beams,
            "lengthPenalty": runnable.length_penalty,
            "noRepeat": runnable.no_repeat,
        },
        "labels": list(runnable.labels),
    }


def _check_ids(runnable: Runnable) -> None:
    """A model and a tokenizer that belong together, and a token to begin a text with."""
    config: Any = runnable.model.config
    size = runnable.tokenizer.get_vocab_size()
    if size > config.vocabulary:
        raise CommandError(
            f"the tokenizer has {size} tokens, and the model knows {config.vocabulary}: they do not belong "
            f"together"
        )
    if runnable.answer == "text" and config.start is None:
        raise CommandError("start: the configuration names no token for a text to begin with")

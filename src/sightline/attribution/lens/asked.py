"""The question: which position, which layers, how many words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from sightline.attribution.lens.answer import LogitLens, chosen
from sightline.attribution.lens.found import is_published
from sightline.attribution.lens.own import OwnStream, word_models
from sightline.attribution.lens.published import PublishedRecorder
from sightline.attribution.lens.published_stream import PublishedStream
from sightline.attribution.lens.reader import read_words
from sightline.attribution.lens.stream import WordStream
from sightline.attribution.recorder import ResidualRecorder
from sightline.common.check import integer
from sightline.models import Model
from sightline.tracing import modules

WORDS = 10
"""Words of each stage where nobody says how many."""

RECORDED = 1 << 26
"""Numbers of a stream that are recorded where nobody asked for them yet: 256 MB of float32."""

Words = Callable[[int], str] | Sequence[str]


def recorder_of(by_name: Any, names: Any) -> ResidualRecorder | PublishedRecorder:
    """Keeps what is written to a model's residual stream.

    Raises:
        ValueError: for a model whose stream is not known.
    """
    return PublishedRecorder(by_name[""]) if is_published(by_name) else ResidualRecorder(by_name, names)


@contextmanager
def recorded(model: Any, positions: int) -> Iterator[PublishedRecorder | None]:
    """A block in which a stream of a model of Transformers is recorded; ``None`` where it cannot be."""
    recorder = None
    if is_published({"": model}):
        try:
            recorder = PublishedRecorder(model)
        except ValueError:
            recorder = None
    if recorder is None or 2 * len(recorder.blocks) * positions * recorder.weight.shape[1] > RECORDED:
        yield None
        return
    modules.listen(recorder)
    try:
        yield recorder
    finally:
        modules.stop_listening(recorder)


def can_be_read(model: Any, positions: int) -> bool:
    """Whether a model of ours writes words, and what it writes for so many positions is no burden."""
    if not isinstance(model, Model) or not word_models({"": model}):
        return False
    config = model.config
    layers = getattr(config, "decoder_layers", None) or config.layers
    return bool(2 * layers * positions * config.width <= RECORDED)


def word_stream(recorder: Any, model: str | None = None) -> WordStream:
    """The stream that ends in words, of what was recorded.

    Args:
        recorder: from :func:`recorder_of`.
        model: the name of one of several models. Default: the only one.

    Raises:
        ValueError: for a model that writes no words, and for several.
    """
    if recorder.reason is not None:
        raise ValueError(f"lens: what was written is not known: {recorder.reason}.")
    if isinstance(recorder, PublishedRecorder):
        return PublishedStream(recorder)
    known = word_models(recorder.modules)
    if not known:
        raise ValueError(
            "lens: no model here has an output matrix, which makes words of vectors. Those that have are "
            'Decoder, EncoderDecoder and Encoder(head="masked-token") of sightline.models, Encoder with a '
            "head of classes and no pooler, and causal and masked models of Transformers with their heads."
        )
    if model is None and len(known) > 1:
        raise ValueError(f"model: there are {', '.join(map(repr, known))}. Name one of them.")
    if model is not None and model not in known:
        raise ValueError(f"model: {model!r} writes no words; these do: {', '.join(map(repr, known))}.")
    return OwnStream(recorder, known[next(iter(known)) if model is None else model])


def lens(
    recorder: Any,
    position: int,
    *,
    k: int | None,
    layers: int | Sequence[int] | None,
    batch: int,
    model: str | None,
    words: Words | None,
) -> LogitLens:
    """See :meth:`sightline.tracing.calls.Calls.lens`."""
    stream = word_stream(recorder, model)
    batches, count = stream.size
    position = integer("position", position, -count, count - 1) % count
    batch = integer("batch", batch, -batches, batches - 1) % batches
    k = min(WORDS, stream.vocabulary) if k is None else integer("k", k, 1, stream.vocabulary)
    kept = chosen(stream.stages, layers)
    read = read_words(stream, batch, torch.tensor([position]), k)
    at = list(kept)
    return LogitLens(
        batch=batch,
        position=position,
        stages=tuple(stream.stages[each].name for each in kept),
        tokens=read.words[0, at],
        logits=read.logits[0, at],
        probabilities=read.probabilities[0, at],
        note=stream.note,
        _stream=stream,
        _kept=kept,
        _eps=recorder.eps,
        _word=_namer(words, stream.vocabulary),
    )


def _namer(words: Words | None, vocabulary: int) -> Callable[[int], str] | None:
    if words is None or callable(words):
        return words
    if isinstance(words, str) or not isinstance(words, Sequence):
        raise TypeError(f"words: a function of an id, or a list of V strings, got {type(words).__name__}.")
    if len(words) < vocabulary:
        raise ValueError(f"words: there are {len(words)}, but the vocabulary has V={vocabulary} tokens.")
    return words.__getitem__

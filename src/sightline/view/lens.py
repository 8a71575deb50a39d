"""What positions say in words, for the page: ``LensInfo`` and ``Lens`` of web/source/types.js."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.attribution.lens.reader import check_parts, read_parts, read_words
from sightline.attribution.lens.stream import Part
from sightline.view.tensors import TensorStore

if TYPE_CHECKING:
    from sightline.reading.lens import WordLens

WORDS = 5
"""Words of each stage that a page shows."""

POSITIONS = 512
"""Positions whose words a page carries at most."""

WORK = 1 << 34
"""Products of numbers that this may take at most: some seconds of one core."""


def lens_about(lens: WordLens) -> dict[str, Any]:
    """What is known before a position is chosen: stages, and who writes to the stream."""
    stream = lens.stream
    heads = {
        kind: {"section": section, "layers": [layer if layer >= 0 else None for layer in layers]}
        for kind, (section, layers) in lens.heads.items()
    }
    return {
        "sections": list(lens.sections),
        "reads": stream.reads,
        "count": stream.size[1],
        "stages": [stage._asdict() for stage in stream.stages],
        "parts": None if stream.why_no_parts else [Part.named(name)._asdict() for name in _parts(lens)],
        "heads": heads,
        "notes": [note for note in (stream.note, _sentence(stream.why_no_parts)) if note],
    }


def lens_at(lens: WordLens, position: int) -> dict[str, Any]:
    """The words of one position, and what each part brought to the one that comes out.

    Raises:
        ValueError: the model ran otherwise than its layers say.
    """
    rows = torch.tensor([position])
    read = read_words(lens.stream, lens.batch, rows, _words(lens))
    parts = None if lens.stream.why_no_parts else _brought(lens, rows, read.final, read.logit_of_final)[0]
    stages = zip(
        read.words[0].tolist(),
        read.probabilities[0].tolist(),
        read.ranks[0].tolist(),
        read.of_final[0].tolist(),
        strict=True,
    )
    return {
        "position": position,
        "word": {"text": lens.names(read.final.tolist())[0], "logit": float(read.logit_of_final[0, -1])},
        "stages": [
            {"words": _named(lens, words, shares), "rank": rank, "probability": own}
            for words, shares, rank, own in stages
        ],
        "parts": None if parts is None else parts.tolist(),
    }


def _named(lens: WordLens, words: list[int], shares: list[float]) -> list[dict[str, Any]]:
    texts = lens.names(words)
    return [{"text": text, "probability": share} for text, share in zip(texts, shares, strict=True)]


def why_not_carried(lens: WordLens) -> str | None:
    """Why a page does not carry the words of all positions, in a sentence; ``None`` where it does."""
    stream, count = lens.stream, lens.stream.size[1]
    numbers = count * len(stream.stages) * stream.vocabulary * stream.width
    if count <= POSITIONS and numbers <= WORK:
        return None
    return (
        f"what each layer says in words is left out of this page: {count} positions are many for it; "
        "sightline serve shows it for each"
    )


def carried_lens(lens: WordLens, store: TensorStore) -> dict[str, Any]:
    """The words of all positions as tensors in ``store``; source/lens.js reads them.

    Raises:
        ValueError: the model ran otherwise than its layers say.
    """
    rows = torch.arange(lens.stream.size[1])
    read = read_words(lens.stream, lens.batch, rows, _words(lens))
    known, places = torch.cat((read.words.flatten(), read.final)).unique(return_inverse=True)
    words, final = places[: read.words.numel()].view(read.words.shape), places[read.words.numel() :]
    carried = {
        "names": lens.names(known.tolist()),
        "words": store.add(words, "i4"),
        "probabilities": store.add(read.probabilities, "f4"),
        "final": store.add(final, "i4"),
        "ranks": store.add(read.ranks, "i4"),
        "ofFinal": store.add(read.of_final, "f4"),
        "logits": store.add(read.logit_of_final[:, -1], "f4"),
    }
    if not lens.stream.why_no_parts:
        carried["parts"] = store.add(_brought(lens, rows, read.final, read.logit_of_final), "f4")
    return carried


def _brought(lens: WordLens, rows: Tensor, final: Tensor, logits: Tensor) -> Tensor:
    """[n,P]: what each part brought to the word that comes out at each position."""
    parts = read_parts(lens.stream, lens.batch, rows, final)
    values = torch.stack(list(parts.values()), 1)
    check_parts(values.sum(1), logits[:, -1], lens.eps)
    return values


def _parts(lens: WordLens) -> list[str]:
    first = torch.zeros(1, dtype=torch.int64)
    return list(lens.stream.parts(lens.batch, first, first))


def _words(lens: WordLens) -> int:
    return min(WORDS, lens.stream.vocabulary)


def _sentence(reason: str | None) -> str:
    return "" if reason is None else f"Who brought a word cannot be said here: {reason}."

"""The residual stream of a reading, as views take it: which positions say words, and what to call these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sightline.attribution.lens.asked import word_stream
from sightline.reading.pieces import are_byte_level, text_of, visible
from sightline.reading.tokens import is_special

if TYPE_CHECKING:
    from sightline.attribution.lens.stream import WordStream
    from sightline.reading.reading import Section

#: What to call tokens of the vocabulary, by their ids.
Names = Callable[[Sequence[int]], list[str]]


@dataclass(frozen=True)
class WordLens:
    """What the positions of a reading say in words.

    Attributes:
        stream: what was recorded.
        batch: which entry.
        sections: names of the sections whose queries are its positions.
        heads: of "head" and "cross head", as parts are called, the section that has them, and each block's
            layer in that section (-1: it is not shown).
        names: what to call tokens.
        eps: the coarsest rounding in what was recorded.
    """

    stream: WordStream
    batch: int
    sections: tuple[str, ...]
    heads: dict[str, tuple[str, tuple[int, ...]]]
    names: Names
    eps: float


def lens_of(recorder: Any, sections: Sequence[Section], batch: int) -> WordLens | None:
    """The lens of a trace's recording; ``None`` where there is none, or it belongs to no section."""
    if recorder is None:
        return None
    try:
        stream = word_stream(recorder)
    except ValueError:  # of a model that writes no words
        return None
    heads: dict[str, tuple[str, tuple[int, ...]]] = {}
    for section in sections:
        places = [stream.calls.get(section.facts_of(at).name) for at in range(len(section.layers))]
        if not section.facts and section.is_self:  # layers without names are all blocks, in order
            places = [(at, "head") for at in range(len(section.layers))]
        known = [(at, *place) for at, place in enumerate(places) if place is not None]
        if known and len(section.queries) == stream.size[1]:
            blocks = 1 + max(stage.layer or 0 for stage in stream.stages)
            layers = [-1] * blocks
            for at, block, _ in known:
                layers[block] = at
            heads[known[0][2]] = (section.name, tuple(layers))
    if not heads:
        return None
    return WordLens(stream, batch, tuple(name for name, _ in heads.values()), heads, numbered, recorder.eps)


def numbered(ids: Sequence[int]) -> list[str]:
    """Names of tokens whose vocabulary is not known."""
    return [f"#{each}" for each in ids]


def names_of_vocabulary(vocabulary: Mapping[str, int]) -> Names:
    """Names of tokens by the pieces of a vocabulary, as views show tokens."""
    pieces = {number: piece for piece, number in vocabulary.items()}
    byte_level = are_byte_level(piece for piece in vocabulary if not is_special(piece))

    def names(ids: Sequence[int]) -> list[str]:
        known = [pieces.get(each, f"#{each}") for each in ids]
        return [piece if is_special(piece) else visible(text_of(piece, byte_level)) for piece in known]

    return names

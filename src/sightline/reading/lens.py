"""The residual stream of a reading, as views take it: which positions say words, and what to call these."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sightline.reading.pieces import are_byte_level, spells_bytes, text_of, visible
from sightline.reading.tokens import is_special

if TYPE_CHECKING:
    from sightline.attribution.lens.stream import WordStream

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


def names_of_labels(labels: Sequence[str]) -> Names:
    """Names of the labels of a classifier."""
    return lambda ids: [labels[each] if each < len(labels) else f"#{each}" for each in ids]


def names_of_ids(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Names of tokens by a tokenizer of Transformers."""
    special, byte_level = set(tokenizer.all_special_ids), spells_bytes(tokenizer)
    pieces = [str(piece) for piece in tokenizer.convert_ids_to_tokens(list(ids))]
    return [
        piece if number in special else visible(text_of(piece, byte_level))
        for number, piece in zip(ids, pieces, strict=True)
    ]

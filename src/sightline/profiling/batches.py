"""From documents to batches: units of documents, cut to tokens, those of like length together.

What a batch holds depends on the corpus and the options alone, not on who runs it or what ran before: so its
numbers are the same in every run, and the whole batch belongs to one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sightline.common.errors import CommandError
from sightline.profiling.corpus import Document

# A unit is so many batches' documents, or fewer if they are long: what is tokenized at once.
_BATCHES = 4
_CHARACTERS = 1 << 20
# A batch's tokens, padding and all: beyond, larger batches run no faster.
_TOKENS = 4096
# How much longer than its shortest document a batch's longest may be.
_LONGER, _SLACK = 1.25, 4


class Item(NamedTuple):
    """A document as the model takes it: its ids, and those that the decoder reads, if another."""

    ids: Sequence[int]
    target: Sequence[int] | None = None


class Encoded(NamedTuple):
    """A document's items (several for windows, none without a token), and whether it lost its end."""

    items: list[Item]
    cut: bool


class Encoder(Protocol):
    """Turns documents into ids."""

    def __call__(self, documents: Sequence[Any]) -> list[Encoded]:
        """One answer for each document."""


class Side(NamedTuple):
    """Ids [B,N], and which of them are no padding, bool [B,N]."""

    ids: Tensor
    real: Tensor


@dataclass(frozen=True)
class Batch:
    """Documents that run together; ``target`` is what a decoder reads, if the model has an encoder, too."""

    source: Side
    target: Side | None

    @property
    def documents(self) -> int:
        """How many."""
        return self.source.ids.shape[0]

    @property
    def tokens(self) -> int:
        """How many, without padding."""
        return int(self.source.real.sum())


@dataclass(frozen=True)
class Unit:
    """Consecutive documents.

    Attributes:
        number: from 0.
        documents: as they come from the corpus.
    """

    number: int
    documents: list[Any]


def units(documents: Iterable[Any], batch: int, limit: int | None) -> Iterator[Unit]:
    """The documents, at most ``limit``, in units: of so many documents, or of fewer long ones."""
    held: list[Any] = []
    number = size = 0
    for count, document in enumerate(documents, 1):
        held.append(document)
        size += _size(document)
        if len(held) >= _BATCHES * batch or size >= _CHARACTERS:
            yield Unit(number, held)
            held, size, number = [], 0, number + 1
        if count == limit:
            break
    if held:
        yield Unit(number, held)


def _size(document: Any) -> int:
    if isinstance(document, Document):
        return len(document.text) + len(document.target or "")
    return 4 * len(document)


def batches(encoded: Sequence[Encoded], batch: int, pad: int = 0) -> list[Batch]:
    """The items of a unit, sorted by length (in their order where equal), those of like length together.

    Args:
        batch: documents that a batch holds at most.
        pad: the id that shorter ones are filled up with.
    """
    items = [item for one in encoded for item in one.items]
    items.sort(key=lambda item: (len(item.ids), len(item.target or ())))
    found: list[list[Item]] = []
    for item in items:
        if not found or not _fits(found[-1], item, batch):
            found.append([])
        found[-1].append(item)
    return [_batch(group, pad) for group in found]


def _fits(group: list[Item], item: Item, batch: int) -> bool:
    def alike(first: Sequence[int] | None, other: Sequence[int] | None) -> bool:
        short, long = sorted((len(first or ()), len(other or ())))
        return long <= _LONGER * short + _SLACK

    if len(group) >= batch or (len(group) + 1) * len(item.ids) > _TOKENS:
        return False
    return alike(group[0].ids, item.ids) and alike(group[0].target, item.target)


def _batch(group: list[Item], pad: int) -> Batch:
    targets = [item.target for item in group if item.target is not None]
    return Batch(_padded([item.ids for item in group], pad), _padded(targets, pad) if targets else None)


def _padded(rows: Sequence[Sequence[int]], pad: int) -> Side:
    """Padding on the right, where it changes no position of a real token."""
    ids = torch.full((len(rows), max(map(len, rows))), pad)
    real = torch.zeros_like(ids, dtype=torch.bool)
    for b, row in enumerate(rows):
        ids[b, : len(row)] = torch.as_tensor(row)
        real[b, : len(row)] = True
    return Side(ids, real)


@dataclass(frozen=True)
class TextEncoder:
    """Texts into ids, by a tokenizer.

    Attributes:
        tokenizer: of Transformers.
        limit: tokens that a document may have; longer ones are cut.
        windows: cut them into documents of that length, instead of dropping the rest.
        start: the id that a decoder's text begins with; ``None`` where there is no decoder beside an encoder.
    """

    tokenizer: Any
    limit: int | None
    windows: bool
    start: int | None = None

    def __call__(self, documents: Sequence[Document]) -> list[Encoded]:
        """The documents' ids, with the tokenizer's special tokens around them."""
        sources = self._encode([document.text for document in documents])
        if self.start is None:
            return sources
        # A decoder reads what it is to write, one place later.
        given = [document.target for document in documents]
        targets = sources if not any(given) else self._encode([text or "" for text in given])
        return [_paired(*pair, self.start) for pair in zip(sources, targets, strict=True)]

    def _encode(self, texts: list[str]) -> list[Encoded]:
        found = self.tokenizer(texts, return_special_tokens_mask=True, verbose=False)
        out = []
        for text, ids, special in zip(texts, found["input_ids"], found["special_tokens_mask"], strict=True):
            if all(special):
                out.append(Encoded([], False))
            elif self.limit is not None and len(ids) > self.limit:
                out.append(Encoded(self._cut(text), not self.windows))
            else:
                out.append(Encoded([Item(ids)], False))
        return out

    def _cut(self, text: str) -> list[Item]:
        try:
            found = self.tokenizer(
                [text],
                truncation=True,
                max_length=self.limit,
                return_overflowing_tokens=self.windows,
                verbose=False,
            )
        except Exception as error:
            raise CommandError(f"a document cannot be cut to {self.limit} tokens: {error}") from None
        return [Item(ids) for ids in found["input_ids"]]


def _paired(source: Encoded, target: Encoded, start: int) -> Encoded:
    pairs = zip(source.items, target.items, strict=False)
    items = [Item(one.ids, [start, *other.ids[:-1]]) for one, other in pairs]
    return Encoded(items, source.cut or target.cut)


@dataclass(frozen=True)
class IdEncoder:
    """Documents that are ids already."""

    limit: int | None
    windows: bool

    def __call__(self, documents: Sequence[Sequence[int] | Tensor]) -> list[Encoded]:
        """The ids, cut to the limit."""
        return [self._cut(document) for document in documents]

    def _cut(self, ids: Sequence[int] | Tensor) -> Encoded:
        row = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        limit = self.limit or max(1, len(row))
        pieces = [Item(row[first : first + limit]) for first in range(0, len(row), limit)]
        return Encoded(pieces if self.windows else pieces[:1], len(pieces) > 1 and not self.windows)

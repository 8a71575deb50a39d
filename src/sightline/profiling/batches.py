"""From documents to batches: units of documents, and in each unit those of similar length together.

What a batch holds depends on the corpus and the options alone, not on who runs it or on what ran before. So
its numbers are the same in every run, and a whole batch belongs to one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sightline.common.check import shown
from sightline.common.errors import CommandError
from sightline.profiling.corpus import Document

# A unit is what is tokenized at once: this many batches of documents, or fewer characters than these.
_UNIT_BATCHES = 4
_UNIT_CHARACTERS = 1 << 20
# The most tokens of a batch, padding included: larger batches run no faster.
_BATCH_TOKENS = 4096
# How much longer than its shortest document the longest one of a batch may be: a factor, and some tokens.
_LONGER, _SLACK = 1.25, 4


class Item(NamedTuple):
    """A document as the model takes it: its ids, and those that a decoder reads."""

    ids: Sequence[int]
    target: Sequence[int] | None = None


class EncodedDocument(NamedTuple):
    """A document's items (several for windows, none without a token), and whether its end was cut off."""

    items: list[Item]
    cut: bool


class DocumentEncoder(Protocol):
    """Turns documents into ids."""

    def __call__(self, documents: Sequence[Any]) -> list[EncodedDocument]:
        """One result for each document."""


class PaddedIds(NamedTuple):
    """Ids [B,N], and which of them are real: bool [B,N], False at padding."""

    ids: Tensor
    real: Tensor

    def to(self, device: torch.device) -> PaddedIds:
        """The same on a device."""
        return PaddedIds(self.ids.to(device), self.real.to(device))


@dataclass(frozen=True)
class Batch:
    """Documents that run together; ``target`` is what the decoder of an encoder–decoder reads."""

    source: PaddedIds
    target: PaddedIds | None

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(self.source.to(device), None if self.target is None else self.target.to(device))

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
    """The documents, ``limit`` of them at most, in units: 4 · ``batch`` documents, or fewer long ones."""
    held: list[Any] = []
    number = size = 0
    for count, document in enumerate(documents, 1):
        held.append(document)
        size += _size(document)
        if len(held) >= _UNIT_BATCHES * batch or size >= _UNIT_CHARACTERS:
            yield Unit(number, held)
            held, size, number = [], 0, number + 1
        if count == limit:
            break
    if held:
        yield Unit(number, held)


def _size(document: Any) -> int:
    if isinstance(document, Document):
        return len(document.text) + len(document.target or "")
    if not hasattr(document, "__len__"):
        raise CommandError(f"documents: each must be a text or token ids, got {shown(document)}.")
    return 4 * len(document)


def batches(encoded: Sequence[EncodedDocument], batch: int, pad: int = 0) -> list[Batch]:
    """The items of a unit, sorted by length (stably), those of similar length together.

    Args:
        encoded: the unit's documents.
        batch: the most documents of a batch.
        pad: the id that fills up shorter ones.
    """
    items = [item for one in encoded for item in one.items]
    items.sort(key=lambda item: (len(item.ids), len(item.target or ())))
    groups: list[list[Item]] = []
    for item in items:
        if not groups or not _fits(groups[-1], item, batch):
            groups.append([])
        groups[-1].append(item)
    return [_padded_batch(group, pad) for group in groups]


def _fits(group: list[Item], item: Item, batch: int) -> bool:
    def similar(first: Sequence[int] | None, other: Sequence[int] | None) -> bool:
        short, long = sorted((len(first or ()), len(other or ())))
        return long <= _LONGER * short + _SLACK

    if len(group) >= batch or (len(group) + 1) * len(item.ids) > _BATCH_TOKENS:
        return False
    return similar(group[0].ids, item.ids) and similar(group[0].target, item.target)


def _padded_batch(group: list[Item], pad: int) -> Batch:
    targets = [item.target for item in group if item.target is not None]
    return Batch(_padded([item.ids for item in group], pad), _padded(targets, pad) if targets else None)


def _padded(rows: Sequence[Sequence[int]], pad: int) -> PaddedIds:
    """Padding on the right, where it changes no position of a real token."""
    ids = torch.full((len(rows), max(map(len, rows))), pad)
    real = torch.zeros_like(ids, dtype=torch.bool)
    for b, row in enumerate(rows):
        ids[b, : len(row)] = torch.as_tensor(row)
        real[b, : len(row)] = True
    return PaddedIds(ids, real)

"""From documents to the ids that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sightline.common.check import integers_tensor
from sightline.common.errors import CommandError
from sightline.profiling.batches import EncodedDocument, Item
from sightline.profiling.corpus import Document


@dataclass(frozen=True)
class TextEncoder:
    """Encodes texts with a tokenizer.

    Attributes:
        tokenizer: of Transformers.
        limit: the most tokens of a document; longer ones are cut.
        windows: cut them into documents of that length instead of dropping the rest.
        start: the id with which the decoder's text begins; ``None`` unless encoder and decoder read a text
            each.
    """

    tokenizer: Any
    limit: int | None
    windows: bool
    start: int | None = None

    def __call__(self, documents: Sequence[Document]) -> list[EncodedDocument]:
        """The documents' ids, with the tokenizer's special tokens around them."""
        sources = self._encode([document.text for document in documents])
        if self.start is None:
            return sources
        # A decoder reads what it is to write, shifted by one place.
        texts = [document.target for document in documents]
        targets = sources if not any(texts) else self._encode([text or "" for text in texts])
        return [_paired(*pair, self.start) for pair in zip(sources, targets, strict=True)]

    def _encode(self, texts: list[str]) -> list[EncodedDocument]:
        encoding = self.tokenizer(texts, return_special_tokens_mask=True, verbose=False)
        rows = zip(texts, encoding["input_ids"], encoding["special_tokens_mask"], strict=True)
        return [self._encoded(text, ids, special) for text, ids, special in rows]

    def _encoded(self, text: str, ids: list[int], special: list[int]) -> EncodedDocument:
        if all(special):
            return EncodedDocument([], False)
        if self.limit is not None and len(ids) > self.limit:
            return EncodedDocument(self._cut(text), not self.windows)
        return EncodedDocument([Item(ids)], False)

    def _cut(self, text: str) -> list[Item]:
        try:
            encoding = self.tokenizer(
                [text],
                truncation=True,
                max_length=self.limit,
                return_overflowing_tokens=self.windows,
                verbose=False,
            )
        except Exception as error:
            raise CommandError(f"a document cannot be cut to {self.limit} tokens: {error}") from None
        return [Item(ids) for ids in encoding["input_ids"]]


def _paired(source: EncodedDocument, target: EncodedDocument, start: int) -> EncodedDocument:
    pairs = zip(source.items, target.items, strict=False)
    items = [Item(one.ids, [start, *other.ids[:-1]]) for one, other in pairs]
    return EncodedDocument(items, source.cut or target.cut)


@dataclass(frozen=True)
class IdEncoder:
    """Cuts documents that are ids already.

    Attributes:
        limit, windows: as for :class:`TextEncoder`.
    """

    limit: int | None
    windows: bool

    def __call__(self, documents: Sequence[Sequence[int] | Tensor]) -> list[EncodedDocument]:
        """The ids, cut to the limit."""
        return [self._cut(document) for document in documents]

    def _cut(self, ids: Sequence[int] | Tensor) -> EncodedDocument:
        try:
            tensor = integers_tensor("documents", ids, "of token ids [N]")
        except TypeError as error:
            raise CommandError(f"{error} Texts need a tokenizer.") from None
        if tensor.dim() != 1:
            raise CommandError(f"documents: expected token ids [N], got shape {list(tensor.shape)}.")
        row = tensor.tolist()
        limit = self.limit or max(1, len(row))
        pieces = [Item(row[first : first + limit]) for first in range(0, len(row), limit)]
        return EncodedDocument(pieces if self.windows else pieces[:1], len(pieces) > 1 and not self.windows)

"""Merging subwords into words: a sum over keys, a mean over queries, so that rows still sum to 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sightline.reading.pieces import BLANK, joined
from sightline.reading.reading import Section
from sightline.reading.tokens import Token
from sightline.view.layers import LayerReadouts, Units, part

if TYPE_CHECKING:
    from sightline.matrix import AttentionMatrix

_BLOCK = 1 << 22  # weights held at once while merging


def merge_tokens(tokens: Sequence[Token]) -> tuple[Token, ...]:
    """The words of ``tokens``; each word's text is the texts of its tokens, joined."""
    words: list[Token] = []
    for token in tokens:
        if words and token.word == words[-1].word:
            last = words[-1]
            # A blank that is a piece of its own is before the word.
            text = joined([last.text.removeprefix(BLANK), token.text.removeprefix("##")])
            words[-1] = Token(last.index, text, last.special, last.word, last.space)
        else:
            words.append(Token(len(words), token.text, token.special, token.word, token.space))
    return tuple(words)


def word_numbers(tokens: Sequence[Token]) -> Tensor:
    """[N] int64: which word, from 0, each token belongs to."""
    numbers, before, current = [], None, -1
    for token in tokens:
        current += token.word != before
        before = token.word
        numbers.append(current)
    return torch.tensor(numbers, dtype=torch.int64)


def merge(weights: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """[H, words, words]: ``weights`` [H,N,M] summed over each word's keys and averaged over its queries.

    Args:
        weights: [H,N,M].
        queries: [N], the word of each query, from 0 without a gap.
        keys: [M], the word of each key.
    """
    heads, _, _ = weights.shape
    wide = weights.new_zeros(heads, weights.shape[1], int(keys[-1]) + 1).index_add_(2, keys, weights)
    merged = wide.new_zeros(heads, int(queries[-1]) + 1, wide.shape[2]).index_add_(1, queries, wide)
    return merged / torch.bincount(queries)[:, None].to(merged.dtype)


@dataclass(frozen=True)
class WordLayer:
    """One layer by words; ``queries`` [N] and ``keys`` [M] are the words of its tokens."""

    matrix: AttentionMatrix
    queries: Tensor
    keys: Tensor

    @property
    def heads(self) -> int:
        """H."""
        return int(self.matrix.shape[1])

    def readouts(self, topk: int) -> LayerReadouts:
        """Every readout in one pass over blocks of words."""
        words = int(self.keys[-1]) + 1
        k = min(topk, words)
        received = torch.zeros(self.heads, words)
        entropy, distance, weights, indices = [], [], [], []
        places = torch.arange(words)
        for start, block in self._blocks():
            received += block.sum(1)
            entropy.append(-torch.xlogy(block, block).sum(-1))
            apart = (torch.arange(start, start + block.shape[1])[:, None] - places).abs()
            distance.append((block * apart).sum(-1))
            top = block.topk(k, dim=-1)
            weights.append(top.values)
            indices.append(torch.where(top.values > 0, top.indices, -1))
        return LayerReadouts(
            torch.cat(entropy, 1),
            torch.cat(distance, 1),
            received,
            torch.cat(weights, 1),
            torch.cat(indices, 1),
        )

    def row(self, head: int, query: int) -> Tensor:
        """[words]: the weights of one word."""
        rows = _span(self.queries, query)
        weights = part(self.matrix, slice(head, head + 1), rows, slice(None))
        return merge(weights, torch.zeros(weights.shape[1], dtype=torch.int64), self.keys)[0, 0]

    def column(self, key: int) -> Tensor:
        """[H, words]: the weights that one word gets from every word."""
        weights = part(self.matrix, slice(None), slice(None), _span(self.keys, key)).sum(-1, keepdim=True)
        return merge(weights, self.queries, torch.zeros(1, dtype=torch.int64))[..., 0]

    def nearby(self) -> Tensor:
        """[3, H, words]: the weights of the word before each word, of the word itself, and of the next."""
        words = int(self.keys[-1]) + 1
        near = torch.zeros(3, self.heads, words)
        for start, block in self._blocks():
            rows = torch.arange(block.shape[1])
            for slot, step in enumerate((-1, 0, 1)):
                cols = start + rows + step
                inside = (cols >= 0) & (cols < words)
                near[slot, :, start + rows[inside]] = block[:, rows[inside], cols[inside]]
        return near

    def _blocks(self) -> Iterator[tuple[int, Tensor]]:
        """(number of the first word, [H, some words, all words]) from the first word to the last."""
        heads, keys = self.heads, len(self.keys)
        rows = max(1, _BLOCK // (heads * keys))
        ends = torch.cumsum(torch.bincount(self.queries), 0).tolist()
        word, start = 0, 0
        while word < len(ends):
            last = word
            while last + 1 < len(ends) and ends[last + 1] - start <= rows:
                last += 1
            weights = part(self.matrix, slice(None), slice(start, ends[last]), slice(None))
            yield word, merge(weights, self.queries[start : ends[last]] - word, self.keys)
            word, start = last + 1, ends[last]


def by_word(section: Section) -> Units:
    """``section`` in words."""
    queries, keys = word_numbers(section.queries), word_numbers(section.keys)
    layers = tuple(WordLayer(matrix, queries, keys) for matrix in section.layers)
    return Units(
        section.name,
        merge_tokens(section.queries),
        merge_tokens(section.keys),
        layers,
        section.is_self,
        section.is_causal,
        "word",
    )


def _span(words: Tensor, word: int) -> slice:
    places = torch.nonzero(words == word)[:, 0]
    return slice(int(places[0]), int(places[-1]) + 1)

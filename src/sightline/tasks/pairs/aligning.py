"""Which heads of the cross-attention say what belongs together in a source and its translation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.measure import merge_words, word_alignment
from sightline.measure.words import Pair
from sightline.models import EncoderDecoder
from sightline.reading.tokens import tokens_of_strings

_LEAST = 20  # words that must be found again before heads are told apart by them


class Aligning(NamedTuple):
    """Where a word of the translation finds its source.

    Attributes:
        layer: of the decoder, from 0.
        heads: whose weights are averaged.
        read: True where a word looks at its source after it was read, in the row of its own tokens; False
            where it does so before it is written, in the row of the token before.
        share: of the words that stand in both texts unchanged, how many find each other.
        words: how many of those there were.
    """

    layer: int
    heads: tuple[int, ...]
    read: bool
    share: float
    words: int


class Encoded(NamedTuple):
    """A text as ids, the word of each as numbers from 0, -1 for no word, and the words."""

    ids: list[int]
    words: list[int]
    texts: list[str]

    def cut(self, most: int) -> Encoded:
        """Its first tokens."""
        return Encoded(self.ids[:most], self.words[:most], self.texts)


def encoded(tokenizer: Any, text: str) -> Encoded:
    """A text without its end token; signs are words of their own."""
    pieces = tokenizer.encode(text)
    words: list[int] = []
    texts: list[str] = []
    before: tuple[int, bool] | None = None
    for token in tokens_of_strings(pieces.tokens):
        now = (token.word, token.text.isalnum())
        if token.special:
            words.append(-1)
            continue
        if now != before:
            texts.append("")
        texts[-1] += token.text
        words.append(len(texts) - 1)
        before = now
    return Encoded(pieces.ids, words, texts)


def find_aligning(
    tokenizer: Any, model: EncoderDecoder, pairs: Sequence[tuple[str, str]], context: int
) -> Aligning | None:
    """The head, or mean of a layer's heads, in which words that stay as they are find each other most often.

    Names and numbers stand in a sentence and in its translation alike, so where each of them should look is
    known without anyone's having aligned the texts. Of every head, and of the mean over every layer's heads,
    both rows that speak of a word are tried: its own, and the one before. Of equal shares the first counts.

    Args:
        tokenizer: of the model.
        model: a translation model in eval mode.
        pairs: sources and their translations, such as the validation part.
        context: tokens of a text at most; longer pairs are left out.

    Returns:
        None where fewer than 20 words stand on both sides.
    """
    found: Tensor | None = None
    count = 0
    for texts in pairs:
        source, target = (encoded(tokenizer, text) for text in texts)
        anchors = _anchors(source, target)
        if anchors and max(len(source.ids), len(target.ids)) < context:
            hits = _hits(_crossed(model, source, target), source, target, anchors)
            found, count = hits if found is None else found + hits, count + len(anchors)
    if found is None or count < _LEAST:
        return None
    best = int(found.flatten().argmax())
    layers, candidates, _ = found.shape
    layer, rest = divmod(best, candidates * 2)
    head, read = divmod(rest, 2)
    heads = tuple(range(candidates - 1)) if head == candidates - 1 else (head,)
    return Aligning(layer, heads, bool(read), float(found.flatten()[best]) / count, count)


def aligned(
    model: EncoderDecoder, by: Aligning, source: Encoded, target: Encoded, method: str = "argmax"
) -> list[Pair]:
    """Pairs of words of target and source, by the heads that align best; none where a side has no word."""
    if not source.texts or not target.texts:
        return []
    matrix = _crossed(model, source, target)[by.layer]
    return word_alignment(matrix, _rows(target, by.read), _columns(source), heads=by.heads, method=method)[0]


def _anchors(source: Encoded, target: Encoded) -> list[tuple[int, int]]:
    """(word of the target, word of the source) of those that are the same, once on either side."""
    return [
        (at, source.texts.index(text))
        for at, text in enumerate(target.texts)
        if len(text) > 1 and text.isalnum() and source.texts.count(text) == target.texts.count(text) == 1
    ]


def _crossed(model: EncoderDecoder, source: Encoded, target: Encoded) -> list[AttentionMatrix]:
    start, end = model.config.start, model.config.end
    with torch.no_grad():
        _, matrices = model(
            torch.tensor([[*source.ids, end]]), torch.tensor([[start, *target.ids]]), return_matrices=True
        )
    crossed: list[AttentionMatrix] = matrices.cross_attention
    return crossed


def _rows(target: Encoded, read: bool) -> Tensor:
    """The word that each row of the decoder speaks of: the start token's row comes before the first one."""
    return torch.tensor([-1, *target.words] if read else [*target.words, -1])


def _columns(source: Encoded) -> Tensor:
    return torch.tensor([*source.words, -1])


def _hits(
    crossed: Sequence[AttentionMatrix], source: Encoded, target: Encoded, anchors: list[tuple[int, int]]
) -> Tensor:
    """[layers, heads + 1, 2] anchors that each head and their mean find, in the row before and their own."""
    words, places = (torch.tensor(each) for each in zip(*anchors, strict=True))
    rows = []
    for matrix in crossed:
        either = []
        for read in (False, True):
            merged = merge_words(matrix, _rows(target, read), _columns(source))[
                0
            ].cpu()  # [H, target's, source's]
            every = torch.cat((merged, merged.mean(0, keepdim=True)))
            either.append((every[:, words].argmax(-1) == places).sum(-1))
        rows.append(torch.stack(either, -1))
    return torch.stack(rows)

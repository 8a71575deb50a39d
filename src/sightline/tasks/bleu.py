"""BLEU of a corpus, as translations are compared by."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_ORDER = 4
_TOKENS = re.compile(
    r"""
    \d+(?:[.,]\d+)*      # numbers with their points and commas
    | \w+(?:-\w+)*       # words, with hyphens inside
    | [^\w\s]            # every other sign is a word of its own
    """,
    re.VERBOSE,
)


def bleu(written: Sequence[str], references: Sequence[str], *, lowercase: bool = True) -> float:
    """BLEU from 0 to 100: brevity penalty · (∏ₙ precision of n-grams, n = 1..4)^¼, counted over the corpus.

    Punctuation is split off first. Figures of other tokenizers differ by some tenths.

    Args:
        written: the translations.
        references: one for each.
        lowercase: whether case counts for nothing. Default: it does not count.

    Raises:
        ValueError: for a different number of both, or none.

    Source: Papineni et al. 2002, "BLEU: a method for automatic evaluation of machine translation".

    Example:
        >>> from sightline.tasks.bleu import bleu
        >>> round(bleu(["the cat sat on the mat ."], ["The cat sat on a mat."]), 2)
        48.89
    """
    if len(written) != len(references) or not written:
        raise ValueError(f"written: {len(written)} texts for {len(references)} references; both are needed.")
    hits, offered = [0] * _ORDER, [0] * _ORDER
    length = wanted = 0
    for text, reference in zip(written, references, strict=True):
        own, other = _words(text, lowercase), _words(reference, lowercase)
        length, wanted = length + len(own), wanted + len(other)
        for n in range(_ORDER):
            grams, known = _grams(own, n + 1), _grams(other, n + 1)
            hits[n] += (grams & known).total()
            offered[n] += grams.total()
    if not all(hits):
        return 0.0
    precision = sum(math.log(hit / of) for hit, of in zip(hits, offered, strict=True)) / _ORDER
    return 100 * math.exp(min(0.0, 1 - wanted / length) + precision)


def _words(text: str, lowercase: bool) -> list[str]:
    return _TOKENS.findall(text.lower() if lowercase else text)


def _grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))

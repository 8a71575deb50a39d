"""The words that a recogniser may write, as a tree of their letters, and how often each follows another."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

START, END = "<s>", "</s>"
_DISCOUNT = 0.5


class Bigrams:
    """How likely a word is after another, from counts, by absolute discounting.

    ``P(w | v) = max(0, c(v,w) − ½) / c(v) + ½ · n(v) / c(v) · P(w)`` with n(v) the number of different words
    after v, and ``P(w) = (c(w) + 1) / Σ (c + 1)``; after an unseen word it is P(w).

    Args:
        counts: for each word, how often each word came next; ``START`` and ``END`` are the ends of a text.

    Source: Ney, Essen & Kneser 1994, "On structuring probabilistic dependences in stochastic language
    modelling".
    """

    def __init__(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        self.counts = {word: dict(behind) for word, behind in counts.items()}
        self.totals = {word: sum(behind.values()) for word, behind in self.counts.items()}
        single: Counter[str] = Counter()
        for behind in self.counts.values():
            single.update(behind)
        whole = sum(single.values()) + len(single)
        self.single = {word: (count + 1) / whole for word, count in single.items()}

    @classmethod
    def of(cls, texts: Iterable[str], vocabulary: int) -> Self:
        """Counted in texts; words beyond the most frequent ``vocabulary`` are ignored."""
        split = [text.split() for text in texts]
        known = {
            word for word, _ in Counter(word for words in split for word in words).most_common(vocabulary)
        }
        counts: dict[str, Counter[str]] = {}
        for words in split:
            row = [START, *(word for word in words if word in known), END]
            for before, word in zip(row, row[1:], strict=False):
                counts.setdefault(before, Counter())[word] += 1
        return cls(counts)

    @property
    def words(self) -> list[str]:
        """All words, in order."""
        return sorted(word for word in self.single if word != END)

    def log(self, before: str, word: str) -> float:
        """The natural logarithm of P(word | before); −∞ for an unknown word."""
        alone = self.single.get(word, 0.0)
        total = self.totals.get(before, 0)
        if not alone or not total:
            return math.log(alone) if alone else -math.inf
        behind = self.counts[before]
        seen = max(0.0, behind.get(word, 0) - _DISCOUNT)
        return math.log((seen + _DISCOUNT * len(behind) * alone) / total)


class Tree:
    """Words as a tree of their letters' labels; node 0 is the root.

    Attributes:
        children: for each node, the node after each label.
        label: for each node, the label that leads to it.
        word: for each node, the word that ends there, if any.
    """

    def __init__(self, words: Iterable[str], labels: Mapping[str, int]) -> None:
        self.children: list[dict[int, int]] = [{}]
        self.label: list[int] = [0]
        self.word: list[str | None] = [None]
        for word in words:
            at = 0
            for letter in word:
                at = self._child(at, labels[letter])
            self.word[at] = word

    def _child(self, at: int, label: int) -> int:
        child = self.children[at].get(label)
        if child is None:
            child = self.children[at][label] = len(self.label)
            self.children.append({})
            self.label.append(label)
            self.word.append(None)
        return child

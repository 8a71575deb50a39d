"""From logits to text: the likeliest label at each position, or the likeliest sequence of known words."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from sightline.tasks.speech.words import END, START, Bigrams, Tree

BLANK, BOUNDARY = "", " "


def greedy(scores: Tensor, labels: Sequence[str]) -> str:
    """The likeliest label at each position of scores [T,V], repeats and blanks (label 0) left out."""
    best = scores.argmax(-1).tolist()
    letters = [labels[at] for i, at in enumerate(best) if at and (i == 0 or at != best[i - 1])]
    return " ".join("".join(letters).split())


class _Place(NamedTuple):
    """The state of a hypothesis: its words so far, and its node of the tree."""

    words: tuple[str, ...]
    node: int


class _Mass(NamedTuple):
    """The log-probabilities of that state, ending in a blank or in the node's label."""

    blank: float
    label: float

    @property
    def total(self) -> float:
        return _added(self.blank, self.label)


_NOTHING = _Mass(-math.inf, -math.inf)


@dataclass(frozen=True)
class WordSearch:
    """Beam search for ``argmax_W log P(W | logits) + weight · log P(W) + bonus · |W|`` among known words.

    P(W | logits) sums over all alignments of the words' letters, as CTC does; P(W) is of word pairs. A word
    counts as soon as its boundary is reached. With as many beams as there are hypotheses it is exact.

    Args:
        words: how likely a word is after another.
        labels: the letters; label 0 is the blank, and one is the boundary between words.
        weight: how much the word pairs count.
        bonus: added for each word, since word pairs alone prefer few words.
        beams: hypotheses kept at each position.

    Source: Hannun et al. 2014, "First-pass large vocabulary continuous speech recognition using
    bi-directional recurrent DNNs"; Graves & Jaitly 2014, "Towards end-to-end speech recognition with
    recurrent neural networks".
    """

    words: Bigrams
    labels: Sequence[str]
    weight: float = 0.5
    bonus: float = 0.0
    beams: int = 16

    def __call__(self, scores: Tensor) -> str:
        """The best text of log-probabilities [T,V]."""
        return self.search([scores])[0]

    def search(self, every: Sequence[Tensor]) -> list[str]:
        """The best text of each recording's log-probabilities [T,V]."""
        numbers = {letter: at for at, letter in enumerate(self.labels)}
        tree = Tree(self.words.words, numbers)
        boundary = numbers.get(BOUNDARY, -1)
        return [self._best(scores.tolist(), tree, boundary) for scores in every]

    def _best(self, scores: list[list[float]], tree: Tree, boundary: int) -> str:
        beam = {_Place((), 0): _Mass(0.0, -math.inf)}
        prior: dict[tuple[str, ...], float] = {(): 0.0}
        for row in scores:
            beam = self._step(beam, row, tree, boundary)
            for place in beam:
                if place.words not in prior:
                    prior[place.words] = prior[place.words[:-1]] + self._gain(place.words)
            if len(beam) > self.beams:
                kept = sorted(beam, key=lambda p: beam[p].total + prior[p.words], reverse=True)
                beam = {place: beam[place] for place in kept[: self.beams]}
        ended = [(self._ended(place, mass, prior, tree), place) for place, mass in beam.items()]
        (_, words), _ = max(ended, key=lambda each: each[0][0])
        return " ".join(words)

    def _step(
        self, beam: dict[_Place, _Mass], row: list[float], tree: Tree, boundary: int
    ) -> dict[_Place, _Mass]:
        """Every hypothesis after one more position: at a blank, at the same label still, or at a next one."""
        blank: dict[_Place, float] = defaultdict(lambda: -math.inf)
        label: dict[_Place, float] = defaultdict(lambda: -math.inf)
        for place, mass in beam.items():
            total, last = mass.total, _last(place, tree, boundary)
            blank[place] = _added(blank[place], total + row[0])
            if last:
                label[place] = _added(label[place], mass.label + row[last])
            for letter, node in tree.children[place.node].items():
                # The same label twice needs a blank in between.
                before = mass.blank if letter == last else total
                next_place = _Place(place.words, node)
                label[next_place] = _added(label[next_place], before + row[letter])
            word = tree.word[place.node]
            if word is not None and boundary > 0:
                next_place = _Place((*place.words, word), 0)
                label[next_place] = _added(label[next_place], total + row[boundary])
        return {place: _Mass(blank[place], label[place]) for place in {**blank, **label}}

    def _gain(self, words: tuple[str, ...]) -> float:
        """The log-probability that the last of the words adds."""
        before = words[-2] if len(words) > 1 else START
        return self.weight * self.words.log(before, words[-1]) + self.bonus

    def _ended(
        self, place: _Place, mass: _Mass, prior: dict[tuple[str, ...], float], tree: Tree
    ) -> tuple[tuple[bool, float], tuple[str, ...]]:
        """((whether it ends with a word, its log-probability), its words)"""
        words, score = place.words, mass.total + prior[place.words]
        word = tree.word[place.node]
        if word is not None:
            words = (*words, word)
            score += self._gain(words)
        whole = word is not None or place.node == 0
        score += self.weight * self.words.log(words[-1] if words else START, END)
        return (whole, score), words


def _last(place: _Place, tree: Tree, boundary: int) -> int:
    """The label that a hypothesis ends with; 0 if it has none yet."""
    if place.node:
        return tree.label[place.node]
    return boundary if place.words and boundary > 0 else 0


def _added(a: float, b: float) -> float:
    """log(eᵃ + eᵇ)"""
    if a < b:
        a, b = b, a
    return a if b == -math.inf else a + math.log1p(math.exp(b - a))

"""BLEU and ROUGE by hand."""

from __future__ import annotations

import math

import pytest

from sightline.tasks.bleu import bleu
from sightline.tasks.rouge import rouge


def test_bleu_by_hand():
    assert bleu(["A small cat, asleep ."], ["a small cat, asleep."]) == pytest.approx(100)
    assert bleu(["A small cat sleeps"], ["a small cat sleeps"], lowercase=False) == 0  # no 4-gram is right
    # Clipped: "the" counts twice, as often as in the reference, of 7.
    assert bleu(["the the the the the the the"], ["the cat is on the mat"]) == 0
    # Counted over the corpus: of n-grams 7 of 8, 5 of 6, 3 of 4, 1 of 2; 8 words for 9.
    found = bleu(["a b c d", "e f g h"], ["a b c d x", "e f g i"])
    assert found == pytest.approx(100 * math.exp(1 - 9 / 8) * (7 / 8 * 5 / 6 * 3 / 4 * 1 / 2) ** 0.25)
    with pytest.raises(ValueError, match="1 texts for 2 references"):
        bleu(["a"], ["a", "b"])


def test_rouge_by_hand():
    found = rouge(["the gunman was killed by police", "yes"], ["police killed the gunman", "no"])
    # First pair: 4 of 6 and of 4 words, 1 of 5 and of 3 pairs, "the gunman" in order; the second has nothing.
    assert found == pytest.approx(
        {"rouge1": 100 * 0.8 / 2, "rouge2": 100 * 0.25 / 2, "rougeL": 100 * 0.4 / 2}
    )
    assert rouge(["A-b, C!"], ["a B c"]) == {"rouge1": 100, "rouge2": 100, "rougeL": 100}
    assert rouge([""], ["a"]) == {"rouge1": 0, "rouge2": 0, "rougeL": 0}

"""ROUGE, and what it chooses, by hand."""

from __future__ import annotations

import pytest

from sightline.tasks.pairs.consensus import consensus
from sightline.tasks.pairs.rouge import rouge


def test_rouge_by_hand():
    found = rouge(["the gunman was killed by police", "yes"], ["police killed the gunman", "no"])
    # First pair: 4 of 6 and of 4 words, 1 of 5 and of 3 pairs, "the gunman" in order; the second has nothing.
    assert found == pytest.approx(
        {"rouge1": 100 * 0.8 / 2, "rouge2": 100 * 0.25 / 2, "rougeL": 100 * 0.4 / 2}
    )
    assert rouge(["A-b, C!"], ["a B c"]) == {"rouge1": 100, "rouge2": 100, "rougeL": 100}
    assert rouge([""], ["a"]) == {"rouge1": 0, "rouge2": 0, "rougeL": 0}


def test_the_others_decide():
    texts = ["gas prices", "meeting", "meeting on friday", "the meeting on friday"]
    scores = [-0.5, -0.6, -0.6, -0.6]
    assert consensus(texts, scores, temperature=1.0) == 2  # has most in common with two others
    assert consensus(texts, scores, temperature=0.01) == 0  # the likeliest alone counts
    assert (
        consensus(["", "a b"], [-float("inf"), -1.0], temperature=1.0) == 1
    )  # a candidate that there is not

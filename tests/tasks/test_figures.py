"""ROUGE by hand."""

from __future__ import annotations

import pytest

from sightline.tasks.pairs.rouge import rouge


def test_rouge_by_hand():
    found = rouge(["the gunman was killed by police", "yes"], ["police killed the gunman", "no"])
    # First pair: 4 of 6 and of 4 words, 1 of 5 and of 3 pairs, "the gunman" in order; the second has nothing.
    assert found == pytest.approx(
        {"rouge1": 100 * 0.8 / 2, "rouge2": 100 * 0.25 / 2, "rougeL": 100 * 0.4 / 2}
    )
    assert rouge(["A-b, C!"], ["a B c"]) == {"rouge1": 100, "rouge2": 100, "rougeL": 100}
    assert rouge([""], ["a"]) == {"rouge1": 0, "rouge2": 0, "rougeL": 0}

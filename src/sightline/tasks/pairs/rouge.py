"""ROUGE, the usual figure for summaries."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence


def rouge(written: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """The mean F1 of ROUGE-1, -2 and -L, from 0 to 100, over pairs.

    ROUGE-n counts the n-grams that both have, ROUGE-L the longest common subsequence of words. Words are runs
    of letters and digits in lower case, without stemming.

    Args:
        written: the summaries.
        references: one for each.

    Raises:
        ValueError: for a different number of both, or none.

    Source: Lin 2004, "ROUGE: a package for automatic evaluation of summaries".

    Example:
        >>> from sightline.tasks.pairs.rouge import rouge
        >>> rouge(["meeting on friday"], ["Friday meeting"])
        {'rouge1': 80.0, 'rouge2': 0.0, 'rougeL': 40.0}
    """
    if len(written) != len(references) or not written:
        raise ValueError(f"written: {len(written)} texts for {len(references)} references; both are needed.")
    totals = {"rouge1": 0.0, "rouge2": 0.0, "rougeL": 0.0}
    for text, reference in zip(written, references, strict=True):
        own, other = _words(text), _words(reference)
        for n in (1, 2):
            mine, theirs = _grams(own, n), _grams(other, n)
            totals[f"rouge{n}"] += _f1((mine & theirs).total(), mine.total(), theirs.total())
        totals["rougeL"] += _f1(_common(own, other), len(own), len(other))
    return {name: 100 * total / len(written) for name, total in totals.items()}


def _f1(hits: int, offered: int, wanted: int) -> float:
    return 2 * hits / (offered + wanted) if hits else 0.0


def _common(one: list[str], other: list[str]) -> int:
    """The length of the longest common subsequence, a row of the table at a time."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0  # the cell up and to the left
        for at, against in enumerate(other, 1):
            above = row[at]
            row[at] = before + 1 if word == against else max(above, row[at - 1])
            before = above
    return row[-1]


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[at : at + n]) for at in range(len(words) - n + 1))

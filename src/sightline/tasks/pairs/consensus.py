"""Minimum-Bayes-risk choice: which of several texts the others agree with most."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sightline.tasks.pairs.rouge import rouge


def consensus(texts: Sequence[str], scores: Sequence[float], temperature: float) -> int:
    """The place of the text that is most like what the model might have written.

    argmaxᵢ Σⱼ softmax(score / temperature)ⱼ · agreement(textᵢ, textⱼ), where agreement is the sum of ROUGE-1
    and -2. The likeliest text alone may say what no other says.

    Args:
        texts: candidates.
        scores: of each, as beam search gives them.
        temperature: above 0; the lower, the more the likeliest count.

    Source: Kumar and Byrne 2004, "Minimum Bayes-risk decoding for statistical machine translation".

    Example:
        >>> from sightline.tasks.pairs.consensus import consensus
        >>> consensus(["gas prices", "the meeting on friday", "meeting on friday"], [-0.7, -0.8, -0.8], 0.3)
        1
    """
    weights = (torch.tensor(scores) / temperature).softmax(0).tolist()
    likeness = [
        sum(weight * _agreement(text, other) for weight, other in zip(weights, texts, strict=True))
        for text in texts
    ]
    return likeness.index(max(likeness))


def _agreement(one: str, other: str) -> float:
    scores = rouge([one], [other])
    return scores["rouge1"] + scores["rouge2"]

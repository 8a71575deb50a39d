"""What each head of a layer does, for the atlas: a label, and its induction score."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch

from sightline.reading.tokens import text_numbers

if TYPE_CHECKING:
    from sightline.reading.reading import Section

#: Repeated tokens are looked for in texts up to this length: it takes passes in plain PyTorch.
REPEATS = 2048
_STEP = 1 << 24  # weights of the heads that are read between two checks for cancellation


class LayerLabels(NamedTuple):
    """What is known of every head.

    Attributes:
        labels: as :func:`sightline.measure.head_labels` gives them.
        induction: as :func:`sightline.measure.induction`; ``None`` where no token of the text comes again.
    """

    labels: list[str | None]
    induction: list[float | None] | None


def labels_of(section: Section, at: int, check: Callable[[], None] = lambda: None) -> LayerLabels:
    """The labels of a self-attention layer's heads; tokens count as the same where their texts are.

    Args:
        section: whose tokens the layer sees; positions without a text have no repeats.
        at: which of its layers.
        check: called between two groups of heads; may raise to stop.
    """
    from sightline.measure import head_labels, induction

    matrix = section.layers[at]
    _, heads, n, m = matrix.shape
    numbers = text_numbers(section.keys) if m <= REPEATS else None
    tokens = None if numbers is None else torch.tensor(numbers)
    labels: list[str | None] = []
    scores: list[float] = []
    step = max(1, _STEP // (n * m))
    for first in range(0, heads, step):
        check()
        some = matrix.select(heads=slice(first, first + step))
        labels += [each.label for each in head_labels(some, tokens, unverified=True)]
        if tokens is not None:
            check()
            scores += induction(some, tokens, unverified=True)[0].tolist()
    rounded = [None if math.isnan(score) else float(f"{score:.6g}") for score in scores]
    return LayerLabels(labels, None if all(score is None for score in rounded) else rounded)

"""What is to be known of a published family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sightline.models.published.weights import PublishedWeights


class Family(NamedTuple):
    """Published models of one architecture.

    Attributes:
        model: the name of our class.
        config: from their configuration and architecture to the settings of ours.
        carry: carries the weights over from their model, with the head of that name.
    """

    model: str
    config: Callable[[Any, str], dict[str, Any]]
    carry: Callable[[PublishedWeights, Any, str], None]

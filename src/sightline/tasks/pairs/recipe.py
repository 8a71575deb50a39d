"""Settings of a run on sources and targets."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class PairRecipe(Recipe):
    """Settings of a run on sources and targets.

    Attributes:
        lowercase: whether texts are lower-cased.
        copying: whether the model may copy tokens of its source.
    """

    lowercase: bool = False
    copying: bool = False

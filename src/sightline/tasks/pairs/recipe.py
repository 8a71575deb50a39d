"""Settings of a run on sources and targets."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class PairRecipe(Recipe):
    """Settings of a run on sources and targets.

    Attributes:
        decoder_layers: blocks of the decoder; 0 for as many as ``layers``.
        lowercase: whether texts are lower-cased.
        copying: whether the model may copy tokens of its source.
    """

    decoder_layers: int = 0
    lowercase: bool = False
    copying: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(0, "decoder_layers")

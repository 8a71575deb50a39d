"""Settings of a run on recordings."""

from __future__ import annotations

from dataclasses import dataclass

from sightline.common.errors import CommandError
from sightline.tasks.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class SpeechRecipe(Recipe):
    """Settings of every run, and of recordings.

    Attributes:
        lowercase: whether texts are lower-cased.
        bins, sampling_rate: log-mel energies of a frame, and samples a second that make them.
        subsampling, convolution: of the model, see :class:`sightline.models.SpeechEncoderConfig`; 0 for no
            convolution.
        tempo, voice: by how much these vary in training, as shares.
        masks: how many stretches of time and of features are hidden in training.
        join: the chance that another recording follows one in training.
    """

    lowercase: bool = True
    bins: int = 40
    sampling_rate: int = 16_000
    subsampling: int = 4
    convolution: int = 0
    tempo: float = 0.0
    voice: float = 0.0
    masks: int = 0
    join: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(1, "bins")
        self.check_least(1000, "sampling_rate")
        self.check_least(0, "convolution", "masks")
        self.check_share("tempo", "voice", "join")
        if self.subsampling not in (1, 2, 4):
            raise CommandError(f"subsampling: 1, 2 or 4, got {self.subsampling}")
        if self.convolution and self.convolution % 2 == 0:
            raise CommandError(f"convolution: an odd number, or 0 for none, got {self.convolution}")

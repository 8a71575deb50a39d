"""Variations in training, so that a few speakers stand for many: tempo, voice, gaps, and order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.tasks.speech.features import Features, normalised

_WARPS = 21  # voices to draw from
_GAP = 25  # frames at most that are hidden at a time


class Utterance(NamedTuple):
    """Frames [T,F] as they were read, and what was said: as text and as labels."""

    frames: Tensor
    text: str
    labels: list[int]
    speaker: str = ""

    @property
    def length(self) -> int:
        """Frames."""
        return len(self.frames)


class Drawn(NamedTuple):
    """Utterances joined for an epoch; their variation follows from ``seed``."""

    parts: tuple[Utterance, ...]
    tempos: tuple[float, ...]
    seed: int

    @property
    def length(self) -> int:
        """The number of frames it will have."""
        pairs = zip(self.parts, self.tempos, strict=True)
        return sum(_stretched(part.length, tempo) for part, tempo in pairs)


@dataclass(frozen=True)
class Variation:
    """How much training varies.

    Attributes:
        tempo: by how much faster or slower at most.
        voice: by how much frequencies are shifted at most.
        masks: how many stretches of time are hidden, and how many of features.
        join: the chance that another utterance follows.
        longest: frames at most.
    """

    tempo: float
    voice: float
    masks: int
    join: float
    longest: int

    def draw(self, examples: Sequence[Utterance], generator: torch.Generator) -> list[Drawn]:
        """Every example once, alone or after others."""
        order = torch.randperm(len(examples), generator=generator).tolist()
        chances = torch.rand(len(order), 2, generator=generator).tolist()
        seeds = torch.randint(1 << 62, (len(order),), generator=generator).tolist()
        utterances: list[Drawn] = []
        length = 0
        for at, (chance, tempo), seed in zip(order, chances, seeds, strict=True):
            new = Drawn((examples[at],), (1 + self.tempo * (2 * tempo - 1),), seed)
            length += new.length
            if utterances and chance < self.join and length <= self.longest:
                utterances[-1] = Drawn(
                    utterances[-1].parts + new.parts, utterances[-1].tempos + new.tempos, seed
                )
            else:
                utterances.append(new)
                length = new.length
        return utterances

    def frames(self, drawn: Drawn, features: Features) -> Tensor:
        """The frames [T,F] that training hears: normalised, with gaps.

        Sources: Park et al. 2019, "SpecAugment"; Ko et al. 2015, "Audio augmentation for speech recognition"
        (tempo; here frames are interpolated); Jaitly & Hinton 2013 (voice).
        """
        generator = torch.Generator().manual_seed(drawn.seed)
        parts = [
            self._voiced(_at_tempo(part.frames, tempo), features, generator)
            for part, tempo in zip(drawn.parts, drawn.tempos, strict=True)
        ]
        frames = normalised(torch.cat(parts))
        longest_gap = min(_GAP, len(frames) // 6)
        for _ in range(self.masks * len(parts)):
            _hide(frames, longest_gap, generator)
        for _ in range(self.masks):
            _hide(frames.T, frames.shape[1] // 4, generator)
        return frames

    def _voiced(self, frames: Tensor, features: Features, generator: torch.Generator) -> Tensor:
        step = int(torch.randint(_WARPS, (1,), generator=generator))
        factor = 1 + self.voice * (2 * step / (_WARPS - 1) - 1)
        return frames @ _warping(features, factor).T if self.voice else frames


@cache
def _warping(features: Features, factor: float) -> Tensor:
    return features.warping(factor)


def _stretched(length: int, tempo: float) -> int:
    return max(1, round(length / tempo))


def _at_tempo(frames: Tensor, tempo: float) -> Tensor:
    if tempo == 1:
        return frames
    size = _stretched(len(frames), tempo)
    return F.interpolate(frames.T[None], size=size, mode="linear", align_corners=False)[0].T


def _hide(frames: Tensor, longest: int, generator: torch.Generator) -> None:
    """Replaces up to ``longest`` rows by the mean, which is 0."""
    size = int(torch.randint(longest + 1, (1,), generator=generator))
    start = int(torch.randint(len(frames) - size + 1, (1,), generator=generator))
    frames[start : start + size] = 0

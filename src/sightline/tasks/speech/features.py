"""The frames a model hears: log-mel energies, or the cepstra of CMU Sphinx."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

from torch import Tensor

from sightline.tasks.rows import DataError
from sightline.tasks.speech import cepstra
from sightline.tasks.speech.audio import Recording, read_audio, resampled
from sightline.tasks.speech.logmel import LOW, log_mel
from sightline.tasks.speech.mel import warping

SECOND = 100  # frames
CEPSTRA = ".mfc"


@dataclass(frozen=True)
class Features:
    """The kind of frames.

    Attributes:
        kind: "log-mel", or "cepstra", which are also read from .mfc files.
        rate: samples a second; recordings of another rate are resampled.
        bins: log-mel energies of a frame; the 13 cepstra are made of 40.
    """

    kind: Literal["log-mel", "cepstra"]
    rate: int
    bins: int

    @classmethod
    def of(cls, path: Path, rate: int, bins: int) -> Self:
        """Cepstra where the data are .mfc files, else log-mel energies."""
        if path.suffix == CEPSTRA:
            return cls("cepstra", cepstra.RATE, cepstra.BINS)
        return cls("log-mel", rate, bins)

    @property
    def size(self) -> int:
        """F, the numbers of a frame."""
        return cepstra.COUNT if self.kind == "cepstra" else self.bins

    def read(self, path: Path) -> Tensor:
        """Frames [T,F] of a file.

        Raises:
            DataError: for a file that cannot be read or used; the message names it and says why.
        """
        if path.suffix != CEPSTRA:
            return self.hear(read_audio(path), str(path))
        if self.kind != "cepstra":
            raise DataError(
                f"{path}: holds cepstra, and the model hears log-mel energies; give the recording"
            )
        return cepstra.read_cepstra(path)

    def hear(self, recording: Recording, name: str) -> Tensor:
        """Frames [T,F] of a recording.

        Raises:
            DataError: for one shorter than a window.
        """
        samples = resampled(recording, self.rate)
        try:
            return (
                cepstra.cepstra(samples) if self.kind == "cepstra" else log_mel(samples, self.rate, self.bins)
            )
        except ValueError as error:
            raise DataError(f"{name}: is too short: {error}") from None

    def warping(self, factor: float) -> Tensor:
        """[F,F]: another vocal tract's effect on a frame (as a row, by ``frame @ W.T``)."""
        if self.kind == "log-mel":
            return warping(factor, LOW, self.rate / 2, self.bins).float()
        energies = warping(factor, cepstra.LOW, cepstra.HIGH, cepstra.BINS)
        return (cepstra.to_cepstra() @ energies @ cepstra.to_energies()).float()

    def energies(self, frames: Tensor) -> Tensor:
        """Log-mel energies [T,bins] of frames, for display."""
        return frames if self.kind == "log-mel" else frames @ cepstra.to_energies().T.float()

    def to_dict(self) -> dict[str, Any]:
        """The settings, for JSON."""
        return asdict(self)


def normalised(frames: Tensor) -> Tensor:
    """Each feature with mean 0 and deviation 1 over the recording, which removes loudness and microphone."""
    return (frames - frames.mean(0)) / (frames.std(0, correction=0) + 1e-3)

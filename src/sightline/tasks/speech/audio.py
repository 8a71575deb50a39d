"""Samples of recordings: read, mixed down to one channel, resampled to the model's rate."""

from __future__ import annotations

from importlib.util import find_spec
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.common.errors import CommandError
from sightline.tasks.rows import DataError

ENDINGS = (".wav", ".flac", ".ogg", ".mp3")


class Recording(NamedTuple):
    """Samples [n] of one channel, between −1 and 1, and how many there are to a second."""

    samples: Tensor
    rate: int


def need_packages() -> None:
    """Checked at once, not after an hour of training.

    Raises:
        CommandError: what recordings and their figures need is not installed.
    """
    lacking = [name for name in ("soundfile", "soxr", "jiwer") if find_spec(name) is None]
    if lacking:
        raise CommandError(f'speech needs {", ".join(lacking)}: pip install "sightline[tasks]"')


def read_audio(path: Path) -> Recording:
    """A .wav, .flac or other file that libsndfile reads; several channels become their mean.

    Raises:
        DataError: for a file that is missing, damaged, empty or holds samples that are not finite.
    """
    import soundfile

    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (OSError, RuntimeError, ValueError) as error:  # soundfile's own errors are RuntimeErrors
        raise DataError(f"{path}: cannot be read: {error}") from None
    return as_recording(samples.mean(1), rate, str(path))


def as_recording(samples: Any, rate: Any, name: str) -> Recording:
    """Numbers of any kind as a recording; 16-bit integers are scaled to [−1, 1], [n,channels] mixed down.

    Raises:
        DataError: for no samples, samples that are not finite or of another shape, or an invalid rate.
    """
    given = torch.as_tensor(samples)
    if given.dtype == torch.int16:
        given = given / 32768
    if given.dim() == 2:
        given = given.float().mean(int(given.shape[0] >= given.shape[1]))
    if given.dim() != 1 or not (given.is_floating_point() or given.numel() == 0):
        raise DataError(
            f"{name}: expected samples [n], floating or 16-bit, got {given.dtype} of {list(given.shape)}"
        )
    if not isinstance(rate, Integral) or rate < 1:
        raise DataError(f"{name}: the sampling rate must be a whole number of samples a second, got {rate!r}")
    if not given.numel():
        raise DataError(f"{name}: holds no samples")
    if not bool(given.isfinite().all()):
        raise DataError(f"{name}: holds samples that are not finite")
    return Recording(given.float(), int(rate))


def resampled(recording: Recording, rate: int) -> Tensor:
    """Its samples [n'] at another rate, by soxr in its default quality."""
    if recording.rate == rate:
        return recording.samples
    import soxr

    return torch.from_numpy(soxr.resample(recording.samples.numpy(), recording.rate, rate))

"""Mel-frequency cepstra as CMU Sphinx makes them: read from its .mfc files, or made from samples."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sightline.tasks.rows import DataError
from sightline.tasks.speech.mel import edges, triangles

COUNT = 13  # cepstra of a frame
RATE, BINS, LOW, HIGH = 16_000, 40, 133.33334, 6855.4976
_WINDOW, _HOP, _FFT = 410, 160, 512  # 25.625 ms, 10 ms
_EMPHASIS, _FLOOR = 0.97, 1e-4


def read_cepstra(path: Path) -> Tensor:
    """Frames [T,13] of a .mfc file: the count of numbers as a big-endian int32, then so many float32.

    Raises:
        DataError: for a file that cannot be read, is cut off, or holds numbers that are not finite.
    """
    import numpy

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    count = int.from_bytes(content[:4], "big")
    if len(content) < 4 or len(content) != 4 + 4 * count:
        raise DataError(
            f"{path}: says that it holds {count} numbers, and has room for {max(0, len(content) - 4) / 4:g}; "
            "it is cut off, or no .mfc file"
        )
    if not count or count % COUNT:
        raise DataError(f"{path}: {count} numbers are no frames of {COUNT} cepstra")
    numbers = numpy.frombuffer(content, ">f4", offset=4).astype("float32")
    frames = torch.from_numpy(numbers).view(-1, COUNT)
    if not bool(frames.isfinite().all()):
        raise DataError(f"{path}: holds numbers that are not finite")
    return frames


def cepstra(samples: Tensor) -> Tensor:
    """Frames [T,13] of samples [n] in [−1, 1] at 16 kHz, by the defaults of ``sphinx_fe``.

    ``c_k = 1/40 Σ_j β_j cos(π k (j + ½) / 40) · log(10⁻⁴ + Σ_f m_fj |FFT(y · w)_f|²)`` with y the 16-bit
    samples after ``y_t = x_t − 0.97 x_{t−1}``, w a Hamming window of 410 samples every 160, an FFT of 512,
    m triangles of area 1 from 133 to 6855 Hz whose corners lie on bins of the FFT, and β = ½ for j = 0, else
    1 (Sphinx's "legacy" transform). Noise that Sphinx may add (dither) is left out.

    Raises:
        ValueError: for samples that don't fill a window.
    """
    if len(samples) < _WINDOW:
        raise ValueError(f"samples: {len(samples)} don't fill a window of {_WINDOW} (25.625 ms at 16 kHz).")
    x = samples.double() * 32768
    y = x - _EMPHASIS * torch.cat([x[:1] * 0, x[:-1]])
    frames = y.unfold(0, _WINDOW, _HOP) * torch.hamming_window(_WINDOW, periodic=False, dtype=torch.float64)
    power = torch.fft.rfft(frames, _FFT).abs().square()
    energies: Tensor = (power @ _filters() + _FLOOR).log()
    return (energies @ to_cepstra().T).float()


def to_cepstra() -> Tensor:
    """[13,40]: from log-mel energies to cepstra."""
    k, j = torch.arange(COUNT, dtype=torch.float64)[:, None], torch.arange(BINS, dtype=torch.float64)
    matrix = torch.cos(torch.pi * k * (j + 0.5) / BINS) / BINS
    matrix[:, 0] /= 2
    return matrix


def to_energies() -> Tensor:
    """[40,13]: from cepstra to the smooth log-mel energies that they stand for (least norm)."""
    inverse: Tensor = torch.linalg.pinv(to_cepstra())
    return inverse


def _filters() -> Tensor:
    """[257,40] triangles of area 1, their corners on bins of the FFT."""
    step = RATE / _FFT
    corners = (edges(LOW, HIGH, BINS) / step + 0.5).floor() * step
    heights: Tensor = 2 / (corners[2:] - corners[:-2])
    filters: Tensor = triangles(corners, _FFT, RATE) * heights
    return filters

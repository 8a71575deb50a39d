"""Log-mel energies: how much of each frequency there is, a hundred times a second."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.tasks.speech.mel import edges, triangles

LOW = 20.0  # Hz, where the lowest triangle begins
FLOOR = 1e-6  # of energies, for samples between -1 and 1


def log_mel(samples: Tensor, rate: int, bins: int = 40) -> Tensor:
    """Frames [T,bins] of samples [n] in [−1, 1].

    ``log max(10⁻⁶, Σ_k |FFT(x · w)_k|² m_kb)``: windows x of 25 ms, the next one 10 ms later, w a Hann
    window, the FFT of the next power of two, and m triangles of height 1, evenly spaced in mel from 20 Hz
    to half the rate. There are ``1 + ⌊(n − window) / hop⌋`` frames: none that the samples don't fill.

    Raises:
        ValueError: for samples that don't fill a window.
    """
    window, hop, size = sizes(rate)
    if len(samples) < window:
        raise ValueError(f"samples: {len(samples)} don't fill a window of {window} (25 ms at {rate} Hz).")
    frames = samples.double().unfold(0, window, hop) * torch.hann_window(window, dtype=torch.float64)
    power = torch.fft.rfft(frames, size).abs().square()
    energies: Tensor = power @ triangles(edges(LOW, rate / 2, bins), size, rate)
    return energies.clamp(min=FLOOR).log().float()


def sizes(rate: int) -> tuple[int, int, int]:
    """(window, hop, size of the FFT) in samples."""
    window = rate // 40
    return window, rate // 100, 1 << (window - 1).bit_length()

"""What a model looked at or listened to, beside the attention: an image in patches, a sound in frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Picture:
    """An image whose patches are positions ``first``, ``first + 1``, ..., row by row.

    Attributes:
        pixels: [height, width, 3] uint8, or floating in [0, 1]; [height, width] for grey.
        rows: patches down.
        columns: patches across.
        first: the position of the first patch; 1 behind a class token.

    Raises:
        ValueError: the pixels have another shape or dtype, or there is no patch.

    Example:
        >>> import sightline, torch
        >>> picture = sightline.Picture(torch.zeros(28, 28), rows=7, columns=7, first=1)
        >>> picture.pixels.shape, picture.about()["first"]
        (torch.Size([28, 28, 3]), 1)
    """

    pixels: Tensor
    rows: int
    columns: int
    first: int = 0

    def __post_init__(self) -> None:
        pixels = torch.as_tensor(self.pixels).detach().cpu()
        if pixels.ndim == 2:
            pixels = pixels[..., None].expand(-1, -1, 3)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
            raise ValueError(f"pixels: [height, width, 3] or [height, width], got {tuple(self.pixels.shape)}")
        if pixels.is_floating_point():
            pixels = (pixels.nan_to_num().clamp(0, 1) * 255).round().to(torch.uint8)
        if pixels.dtype != torch.uint8:
            raise ValueError(f"pixels: uint8, or floating in [0, 1]; got {self.pixels.dtype}")
        _check_places(rows=self.rows, columns=self.columns, first=self.first)
        object.__setattr__(self, "pixels", pixels.contiguous())

    def about(self) -> dict[str, Any]:
        """What it is, without the pixels."""
        height, width, _ = self.pixels.shape
        places = {"rows": self.rows, "columns": self.columns, "first": self.first}
        return {"kind": "image", "width": width, "height": height, **places}


@dataclass(frozen=True)
class Sound:
    """A sound whose stretches of time are positions ``first``, ``first + 1``, ...: equal shares of it.

    Attributes:
        frames: [T, F] floating: a spectrogram, or other features over time; time first.
        seconds: how long it is.
        first: the position of the first stretch.
        count: how many positions; T by default, fewer behind a subsampling.

    Raises:
        ValueError: the frames have another shape, or there is no time.

    Example:
        >>> import sightline, torch
        >>> sound = sightline.Sound(torch.zeros(100, 40), seconds=1.0, count=25)
        >>> sound.about()["count"], sound.about()["bins"]
        (25, 40)
    """

    frames: Tensor
    seconds: float
    first: int = 0
    count: int | None = None

    def __post_init__(self) -> None:
        frames = torch.as_tensor(self.frames).detach().cpu().float()
        if frames.ndim != 2 or 0 in frames.shape:
            raise ValueError(f"frames: [T, F], time first, got {tuple(self.frames.shape)}")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"seconds: must be positive, got {self.seconds}")
        count = len(frames) if self.count is None else self.count
        _check_places(count=count, first=self.first)
        object.__setattr__(self, "frames", frames.nan_to_num().contiguous())
        object.__setattr__(self, "count", count)

    def about(self) -> dict[str, Any]:
        """What it is, without the numbers."""
        frames, bins = self.frames.shape
        places = {"first": self.first, "count": self.count}
        return {"kind": "sound", "frames": frames, "bins": bins, "seconds": self.seconds, **places}


def _check_places(first: int, **counts: int) -> None:
    if first < 0:
        raise ValueError(f"first: a position from 0, got {first}")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name}: at least 1, got {count}")

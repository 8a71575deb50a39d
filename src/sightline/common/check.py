"""Checks that several modules share. Errors name the argument, both values, the axis and the remedy."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


class SettingError(ValueError):
    """An environment variable names something that does not exist or that this machine lacks."""


def is_eager(tensor: Tensor) -> bool:
    """Whether values may be looked at: not while compiling or exporting, not on meta tensors."""
    return not (torch.compiler.is_compiling() or isinstance(tensor, FakeTensor) or tensor.is_meta)


def check_device(name: str, tensor: Tensor, device: torch.device) -> None:
    """Raises for a tensor that lies on another device than the query."""
    if tensor.device != device:
        raise ValueError(
            f"{name}: on {tensor.device}, but the query is on {device}. Move it with .to({str(device)!r})."
        )


def check_integers(name: str, tensor: Tensor) -> None:
    """Raises for a tensor that does not hold integers."""
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name}: expected integers, got {tensor.dtype}. Use .long().")


def fits(name: str, tensor: Tensor, letters: Sequence[str], shape: Sequence[int]) -> Tensor:
    """The tensor with leading axes of size 1 added, if it broadcasts to ``shape``; else a clear error.

    The size-1 axes are kept as they are: nothing is expanded.
    """
    wanted = ", ".join(f"{letter}={size}" for letter, size in zip(letters, shape, strict=True))
    if tensor.dim() > len(shape):
        raise ValueError(f"{name}: shape {list(tensor.shape)} has more axes than [{wanted}].")
    full = tensor[(None,) * (len(shape) - tensor.dim())]
    for letter, have, want in zip(letters, full.shape, shape, strict=True):
        if have not in (1, want):
            raise ValueError(
                f"{name}: shape {list(tensor.shape)} does not broadcast to [{wanted}]: axis {letter} has "
                f"{have} entries, expected {want} or 1."
            )
    return full

"""Checks that several modules share. Errors name the argument, both values, the axis and the remedy."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from sightline.common import dispatcher

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class SettingError(ValueError):
    """An environment variable names something that does not exist or that this machine lacks."""


# --- numbers --------------------------------------------------------------------------------------------


def integer(name: str, value: Any, low: int | None = None, high: int | None = None, remedy: str = "") -> int:
    """The value as an int, where it is one of Python, NumPy or PyTorch: no float, no bool, no text.

    Raises:
        TypeError: for another kind; ValueError: for one below ``low`` or above ``high``.
    """
    number = value if type(value) is int else _index(value)
    if number is None:
        raise TypeError(f"{name}: must be an integer, got {shown(value)}.{_after(remedy)}")
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(f"{name}: must {_limits(low, high)}, got {number}.{_after(remedy)}")
    return number


def number(
    name: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    remedy: str = "",
) -> float:
    """The value as a finite float, where it is a number of Python, NumPy or PyTorch: no bool, no text.

    Raises:
        TypeError: for another kind; ValueError: for NaN, infinity, and what lies outside ``low`` to ``high``
            or is not above ``above``.
    """
    real = _real(value)
    if real is None:
        raise TypeError(f"{name}: must be a number, got {shown(value)}.{_after(remedy)}")
    if not math.isfinite(real):
        raise ValueError(f"{name}: must be finite, got {real}.{_after(remedy)}")
    if above is not None and real <= above:
        raise ValueError(f"{name}: must be above {above:g}, got {real}.{_after(remedy)}")
    if (low is not None and real < low) or (high is not None and real > high):
        raise ValueError(f"{name}: must {_limits(low, high)}, got {real}.{_after(remedy)}")
    return real


def share(name: str, value: Any) -> float:
    """The value as a number from 0 to 1, or an error."""
    return number(name, value, 0, 1)


def flag(name: str, value: Any, *others: str) -> bool:
    """The value, if it is a bool of Python or NumPy; ``"no"`` and 0.5 would pass for True.

    Args:
        name: of the argument.
        value: what was given.
        others: what else the argument takes, for the error.
    """
    if isinstance(value, bool):
        return value
    if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    taken = " or ".join(["True or False", *map(repr, others)])
    raise TypeError(f"{name}: must be {taken}, got {shown(value)}.")


# --- choices, paths -------------------------------------------------------------------------------------


def choice(name: str, value: Any, known: Iterable[str]) -> None:
    """Raises for what is none of the known words."""
    words = tuple(known)
    if not isinstance(value, str):
        raise TypeError(f"{name}: must be one of {', '.join(words)}, got {shown(value)}.")
    if value not in words:
        raise ValueError(f"{name}: there is no {value!r}; known: {', '.join(words)}.")


def path(name: str, value: Any) -> Path:
    """The value as a path, or an error for what names none."""
    if not isinstance(value, (str, os.PathLike)) or not str(value) or "\0" in str(value):
        raise TypeError(f"{name}: must be a path, got {shown(value)}.")
    return Path(value)


def kind(name: str, value: Any, wanted: type | tuple[type, ...], what: str) -> None:
    """Raises for an object of another class; ``what`` says which it has to be."""
    if not isinstance(value, wanted):
        raise TypeError(f"{name}: must be {what}, got {shown(value)}.")


def shown(value: Any) -> str:
    """A value in an error: itself where it is short, else its type and, of a tensor, its dtype and shape."""
    if isinstance(value, Tensor):
        axes = "nested" if value.is_nested else f"of shape {list(value.shape)}"
        return f"a tensor {axes}, {value.dtype}"
    if value is None or isinstance(value, (bool, int, float, complex, str)):
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} of shape {list(shape)}"


# --- tensors --------------------------------------------------------------------------------------------


def is_eager(tensor: Tensor) -> bool:
    """Whether values may be looked at: not while compiling or exporting, on meta tensors, under vmap."""
    if torch.compiler.is_compiling() or isinstance(tensor, FakeTensor) or tensor.is_meta:
        return False
    return not dispatcher.has_samples(tensor)


def check_device(name: str, tensor: Tensor, device: torch.device) -> None:
    """Raises for a tensor that lies on another device than the query."""
    if tensor.device != device:
        raise ValueError(
            f"{name}: on {tensor.device}, but the query is on {device}. Move it with .to({str(device)!r})."
        )


def check_strided(name: str, tensor: Tensor) -> None:
    """Raises for a sparse, nested or packed tensor, whose entries no kernel finds by strides."""
    if tensor.is_nested:
        raise TypeError(
            f"{name}: expected one tensor, got a nested one. Pack it into [1,...] and give documents() as "
            "the mask, or pad it with torch.nested.to_padded_tensor and give lengths()."
        )
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got layout {tensor.layout}. Use .to_dense().")


def check_tensor(name: str, value: Any, axes: str, floating: bool = True) -> None:
    """Raises for what is no dense tensor with these axes, "[B,N,C]" say; of a floating dtype, by default."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name}: expected a tensor {axes}, got {type(value).__name__}. Use torch.as_tensor({name})."
        )
    check_strided(name, value)
    if floating and not value.is_floating_point():
        raise TypeError(f"{name}: expected a floating dtype, got {value.dtype}. Use .float().")
    wanted = axes.count(",") + 1
    if value.dim() != wanted:
        raise ValueError(f"{name}: expected {wanted} axes {axes}, got shape {list(value.shape)}.")


def check_integers(name: str, tensor: Tensor) -> None:
    """Raises for a tensor that does not hold integers."""
    if tensor.dtype not in INTEGERS:
        raise TypeError(f"{name}: expected integers, got {tensor.dtype}. Use .long().")
    check_strided(name, tensor)


def integers_tensor(name: str, given: Any, axes: str = "[B]", device: torch.device | None = None) -> Tensor:
    """Integers in a tensor, a NumPy array or a sequence, as a tensor; a sequence's or array's is int64.

    Raises:
        TypeError: for anything else: a single number, text, floats, bools, sets, which have no order.
    """
    if isinstance(given, Tensor):
        check_integers(name, given)
        return given
    if type(given) is list and all(type(one) is int and abs(one) < 2**63 for one in given):
        return torch.tensor(given, dtype=torch.int64, device=device)
    array = hasattr(given, "__array__") and getattr(given, "ndim", 0) > 0
    if not array and (not isinstance(given, Sequence) or isinstance(given, (str, bytes))):
        raise TypeError(f"{name}: expected integers {axes}, got {shown(given)}.")
    if not array and any(isinstance(one, bool) for one in given):
        raise TypeError(f"{name}: expected integers {axes}, got bools among them.")
    try:
        tensor = torch.as_tensor(given if array else list(given), device=device)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"{name}: expected integers {axes}, got {_listed(given)}.") from None
    if not tensor.numel():  # an empty list makes an empty tensor of floats
        return tensor.long()
    if tensor.dtype not in INTEGERS:
        raise TypeError(f"{name}: expected integers {axes}, got {_listed(given)}, {tensor.dtype}.")
    return tensor.long()


def fits(name: str, tensor: Tensor, letters: Sequence[str], shape: Sequence[int]) -> Tensor:
    """The tensor with leading axes of size 1 added, if it broadcasts to ``shape``; else a clear error.

    The size-1 axes are kept as they are: nothing is expanded.
    """
    check_strided(name, tensor)
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


# --- in words -------------------------------------------------------------------------------------------


def _index(value: Any) -> int | None:
    if isinstance(value, (int, torch.SymInt)):  # symbolic while compiling: must not become a number
        return None if isinstance(value, bool) else value  # type: ignore[return-value]
    if isinstance(value, Tensor) and not _one_integer(value):
        return None
    try:
        return operator.index(value)
    except (TypeError, RuntimeError):
        return None


def _one_integer(tensor: Any) -> bool:
    return tensor.dtype in INTEGERS and tensor.dim() == 0 and not tensor.is_meta


def _real(value: Any) -> float | None:
    if isinstance(value, Tensor):
        real = value.dim() == 0 and (value.is_floating_point() or value.dtype in INTEGERS)
        return float(value) if real and not value.is_meta else None
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _limits(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"be {high} or less" if low is None else f"be {low} or more"
    return f"lie between {low} and {high}"


def _after(remedy: str) -> str:
    return f" {remedy}" if remedy else ""


def _listed(given: Any) -> str:
    if hasattr(given, "__array__"):
        return shown(given)
    text = repr(list(given))
    return text if len(text) <= 60 else text[:57] + "..."

"""Checks of what a caller of attention gives: tensors, shapes, numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sightline.common.check import check_device, check_strided, number, share

#: The dtypes that attention is computed for.
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_STRIDED = torch.strided


def check_tensors(query: Tensor, key: Tensor, value: Tensor | None) -> None:
    """Raises for what is no tensor of four axes, for dtypes and devices that differ."""
    if _are_plain_alike(query, key, key if value is None else value):
        return
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor is None and name == "value":
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}.")
        if tensor.dtype not in DTYPES:
            raise TypeError(
                f"{name}: dtype {tensor.dtype} is not supported; "
                "use float32, bfloat16, float16 or float64, for instance with .float()."
            )
        check_strided(name, tensor)
        if tensor.dim() != 4:
            axes = "[B,H,N,D]" if name == "query" else "[B,G,M,D]" if name == "key" else "[B,G,M,E]"
            raise ValueError(
                f"{name}: expected 4 axes {axes}, got shape {list(tensor.shape)}. "
                "Add batch or head axes with tensor[None]."
            )
        if tensor.dtype != query.dtype:
            raise TypeError(f"{name}: dtype {tensor.dtype} differs from the query's {query.dtype}.")
        check_device(name, tensor, query.device)


def _are_plain_alike(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether three tensors pass at a glance; a short call spends as long on checks as on its attention."""
    if not type(query) is type(key) is type(value) is Tensor:
        return False
    return (
        query.dtype is key.dtype is value.dtype
        and query.dtype in DTYPES
        and query.dim() == key.dim() == value.dim() == 4
        and query.device == key.device == value.device
        and query.layout is key.layout is value.layout is _STRIDED
        and not (query.is_nested or key.is_nested or value.is_nested)
    )


def check_value(value: Tensor | None) -> None:
    """Raises where there is no value, which only a matrix can do without."""
    if value is None:
        raise TypeError(
            "value: expected a tensor [B,G,M,E], got None. "
            "For the weights alone make an AttentionMatrix(query, key)."
        )


def check_shapes(query: Tensor, key: Tensor, value: Tensor | None) -> None:
    """Raises for shapes that do not fit together."""
    b, h, _, d = query.shape
    if d == 0:
        raise ValueError("query: width 0 (axis D, the last); a query needs at least one number.")
    if key.shape[0] != b:
        raise ValueError(f"key: batch {key.shape[0]} differs from the query's {b} (axis B, the first).")
    if key.shape[3] != d:
        raise ValueError(
            f"key: width {key.shape[3]} differs from the query's {d} (axis D, the last). "
            "Project both to the same width."
        )
    groups = key.shape[1]
    if (groups == 0 and h > 0) or (groups and h % groups):
        raise ValueError(
            f"key: {groups} key/value heads (G, axis 1) do not divide the query's {h} heads (H, axis 1). "
            "H must be a multiple of G."
        )
    if value is not None and value.shape[:3] != key.shape[:3]:
        for axis, letter in enumerate("BGM"):
            if value.shape[axis] != key.shape[axis]:
                raise ValueError(
                    f"value: {value.shape[axis]} entries along axis {letter} ({axis}) differ from the "
                    f"key's {key.shape[axis]}. Keys and values belong in pairs."
                )


def checked_sinks(sinks: Tensor, query: Tensor) -> Tensor:
    """The sinks, or an error."""
    if not isinstance(sinks, Tensor) or not sinks.is_floating_point():
        kind = sinks.dtype if isinstance(sinks, Tensor) else type(sinks).__name__
        raise TypeError(f"sinks: expected a floating tensor [H], got {kind}.")
    if sinks.shape != (query.shape[1],):
        raise ValueError(
            f"sinks: shape {list(sinks.shape)} does not fit H={query.shape[1]} heads (axis H). "
            "Give one logit per query head."
        )
    check_strided("sinks", sinks)
    check_device("sinks", sinks, query.device)
    return sinks


def check_has_numbers(name: str, tensor: Tensor, query: Tensor) -> None:
    """Raises for a tensor without numbers, on meta, where the query has some."""
    if tensor.is_meta and not query.is_meta:
        raise ValueError(
            f"{name}: on meta, where there are no numbers, but the query is on {query.device}. "
            f"Give it on {query.device}."
        )


def finite(name: str, value: float) -> float:
    """The number as a float, or an error where it is none, infinite or NaN."""
    return value if type(value) is float and math.isfinite(value) else number(name, value)


def positive(name: str, value: float) -> float:
    """The number as a float, or an error where it is not above 0."""
    return number(name, value, above=0, remedy="None leaves it out.")


def checked_dropout(dropout: float) -> float:
    """The dropout, or an error where it lies outside [0, 1]."""
    if type(dropout) is float and 0 <= dropout <= 1:
        return dropout
    return share("dropout", dropout)

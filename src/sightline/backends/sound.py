"""Whether tensors from a file or a pickle make a problem: wrong sizes would read memory of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sightline.backends.problem import FIELDS

_FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# Of the tensors that are not floating, what they are instead.
_DTYPES = {"ranges": (torch.int32,), "visible": (torch.bool,), "offset": (torch.int64,)}
#: The axes of each tensor that may be stored, and those along which it may broadcast; no seed of a dropout.
STORED = {field.name: (field.axes, field.broadcasts) for field in FIELDS if field.axes} | {
    "lse": ("BHN", ""),
    "gradient": ("BHNE", ""),
}


def check_sound(tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
    """Raises ValueError unless tensors, by the names of ``STORED``, and scale and softcap make a problem.

    The lse and the gradient of the context are checked with it, where they are given.
    """
    _need(set(tensors) <= set(STORED), "has tensors of unknown names")
    _need({"query", "key"} <= set(tensors), "lacks its query or key")
    scale, softcap = numbers.get("scale"), numbers.get("softcap")
    number = isinstance(scale, int | float) and not isinstance(scale, bool)
    _need(number and abs(scale or 0.0) < 1e30, "has an invalid scale")
    capped = type(softcap) is float and 0 < softcap < 1e30
    _need(softcap is None or capped, "has an invalid softcap")
    for name, tensor in tensors.items():
        _check_kind(name, tensor)
    _check_sizes(tensors)
    _check_terms(tensors)


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _check_kind(name: str, tensor: Tensor) -> None:
    axes, _ = STORED[name]
    _need(
        tensor.dim() == len(axes),
        f"its {name} has {tensor.dim()} axes, expected {len(axes)}",
    )
    _need(tensor.dtype in _DTYPES.get(name, _FLOATING), f"its {name} is {tensor.dtype}")


def _check_sizes(tensors: Mapping[str, Tensor]) -> None:
    """The axes of one letter must have one size."""
    query, key, value = tensors["query"], tensors["key"], tensors.get("value")
    sizes = dict(zip("BHND", query.shape, strict=True)) | {
        "G": key.shape[1],
        "M": key.shape[2],
        "2": 2,
    }
    _need(sizes["D"] > 0, "its query has no width")
    whole = sizes["G"] > 0 and sizes["H"] % sizes["G"] == 0
    _need(
        whole or sizes["H"] == sizes["G"] == 0,
        "its heads are not a multiple of its key heads",
    )
    sizes["E"] = -1 if value is None else value.shape[3]  # without a value there is no gradient
    for name, tensor in tensors.items():
        axes, broadcasts = STORED[name]
        fits = all(
            size == sizes.get(letter, size) or (size == 1 and letter in broadcasts)
            for letter, size in zip(axes, tensor.shape, strict=True)
        )
        _need(
            fits,
            f"its {name} of shape {list(tensor.shape)} does not fit its query and key",
        )


def _check_terms(tensors: Mapping[str, Tensor]) -> None:
    """What the axes do not say."""
    for name in ("key", "value"):
        same = name not in tensors or tensors[name].dtype == tensors["query"].dtype
        _need(same, f"its {name} is of another dtype than its query")
    table, ranges = tensors.get("table"), tensors.get("ranges")
    _need(
        table is None or table.shape[1] % 2 == 1,
        "its table has an even number of entries",
    )
    needs_offset = "slopes" in tensors or "table" in tensors
    _need(not needs_offset or "offset" in tensors, "lacks its offset")
    _need(ranges is None or ranges.shape[3] > 0, "it has no range per query")
    if ranges is not None and ranges.numel() and not ranges.is_meta:
        least, most, keys = (
            int(ranges.min()),
            int(ranges.max()),
            tensors["key"].shape[2],
        )
        _need(
            least >= 0 and most <= keys,
            f"its ranges run from {least} to {most} of {keys} keys",
        )

"""One call's problem as it stands in a file, checked: wrong sizes would read memory that is not its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.backends import FIELDS, Problem
from sightline.tracing.tensor_file import TensorFileError, need

_FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
# Of the tensors that are not floating, what they are instead.
_DTYPES = {"ranges": (torch.int32,), "visible": (torch.bool,), "offset": (torch.int64,)}
# The axes of each tensor that may be stored, and those along which it may broadcast; no seed of a dropout.
_AXES = {field.name: (field.axes, field.broadcasts) for field in FIELDS if field.axes} | {
    "lse": ("BHN", ""),
    "gradient": ("BHNE", ""),
}


def read_problem(where: str, about: Any, mapped: dict[str, Tensor]) -> tuple[Problem, Tensor, Tensor | None]:
    """The problem that is described, its lse [B,H,N], and the gradient of its context, if there is one.

    Args:
        where: whose it is, for errors.
        about: its description.
        mapped: the tensors of the file.

    Raises:
        TensorFileError: for anything that does not fit.
    """
    need(isinstance(about["tensors"], dict), f"{where} has no table of tensors")
    need(set(about["tensors"]) <= set(_AXES), f"{where} has tensors of unknown names")
    need({"query", "key", "lse"} <= set(about["tensors"]), f"{where} lacks its query, key or lse")
    tensors = {name: _tensor(where, name, one, mapped) for name, one in about["tensors"].items()}
    scale, softcap = about.get("scale"), about.get("softcap")
    need(type(scale) in (int, float) and abs(scale) < 1e30, f"{where} has an invalid scale")
    need(
        softcap is None or (type(softcap) is float and 0 < softcap < 1e30), f"{where} has an invalid softcap"
    )
    for name, tensor in tensors.items():
        _check_kind(where, name, tensor)
    _check_sizes(where, tensors)
    _check_terms(where, tensors)
    lse, gradient = tensors.pop("lse"), tensors.pop("gradient", None)
    terms: dict[str, Any] = {"value": None} | tensors
    problem = Problem(**terms, scale=float(scale), softcap=softcap)
    need(list(problem.shape) == about.get("shape"), f"{where} says another shape than its tensors have")
    return problem, lse, gradient


def _tensor(where: str, name: str, about: Any, mapped: dict[str, Tensor]) -> Tensor:
    need(isinstance(about, dict) and isinstance(about.get("name"), str), f"{where} does not name its {name}")
    stored = mapped.get(about["name"])
    if stored is None:
        raise TensorFileError(f"{where}: its {name}, {about['name'][:60]!r}, is missing")
    shape = about.get("shape")
    sound = isinstance(shape, list) and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    need(sound, f"{where}: its {name} has an invalid shape")
    if list(stored.shape) == shape:
        return stored
    fits = len(shape) == stored.dim() and all(
        have in (1, want) for have, want in zip(stored.shape, shape, strict=True)
    )
    need(fits, f"{where}: its {name} is {list(stored.shape)}, which is not {shape}")
    return stored.expand(shape)


def _check_kind(where: str, name: str, tensor: Tensor) -> None:
    axes, _ = _AXES[name]
    need(tensor.dim() == len(axes), f"{where}: its {name} has {tensor.dim()} axes, expected {len(axes)}")
    need(tensor.dtype in _DTYPES.get(name, _FLOATING), f"{where}: its {name} is {tensor.dtype}")


def _check_sizes(where: str, tensors: dict[str, Tensor]) -> None:
    """The axes of one letter must have one size."""
    query, key, value = tensors["query"], tensors["key"], tensors.get("value")
    sizes = dict(zip("BHND", query.shape, strict=True)) | {"G": key.shape[1], "M": key.shape[2], "2": 2}
    need(sizes["D"] > 0, f"{where}: its query has no width")
    need(
        sizes["G"] > 0 and sizes["H"] % sizes["G"] == 0,
        f"{where}: its heads are not a multiple of its key heads",
    )
    sizes["E"] = -1 if value is None else value.shape[3]  # without a value there is no gradient
    for name, tensor in tensors.items():
        axes, broadcasts = _AXES[name]
        fits = all(
            size == sizes.get(letter, size) or (size == 1 and letter in broadcasts)
            for letter, size in zip(axes, tensor.shape, strict=True)
        )
        need(fits, f"{where}: its {name} of shape {list(tensor.shape)} does not fit its query and key")


def _check_terms(where: str, tensors: dict[str, Tensor]) -> None:
    """What the axes do not say."""
    for name in ("key", "value"):
        same = name not in tensors or tensors[name].dtype == tensors["query"].dtype
        need(same, f"{where}: its {name} is of another dtype than its query")
    table, ranges = tensors.get("table"), tensors.get("ranges")
    need(table is None or table.shape[1] % 2 == 1, f"{where}: its table has an even number of entries")
    needs_offset = "slopes" in tensors or "table" in tensors
    need(not needs_offset or "offset" in tensors, f"{where}: lacks its offset")
    need(ranges is None or ranges.shape[3] > 0, f"{where}: it has no range per query")
    if ranges is not None and ranges.numel():
        least, most, keys = int(ranges.min()), int(ranges.max()), tensors["key"].shape[2]
        need(least >= 0 and most <= keys, f"{where}: its ranges run from {least} to {most} of {keys} keys")

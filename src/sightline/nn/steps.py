"""What a step gives to a cache, checked: keys, values, and counts of an entry each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sightline.common.check import check_strided, integers_tensor, is_eager


def check_step(key: Tensor, value: Tensor, there: Mapping[str, Tensor]) -> None:
    """Raises for keys and values that are none, or do not fit those that are ``there``."""
    for name, tensor, axes in (("key", key, "[B,G,n,D]"), ("value", value, "[B,G,n,E]")):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}.")
        check_strided(name, tensor)
        if tensor.is_quantized:
            raise TypeError(f"{name}: {tensor.dtype} is not kept. Use .dequantize().")
        if tensor.dim() != 4:
            raise ValueError(f"{name}: expected 4 axes {axes}, got shape {list(tensor.shape)}.")
        if tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{name}: requires gradients, which a cache cannot carry. Append {name}.detach(), or "
                "work under torch.no_grad()."
            )
    for axis, letter in enumerate("BGn"):
        if key.shape[axis] != value.shape[axis]:
            raise ValueError(
                f"value: {value.shape[axis]} entries along axis {letter} ({axis}) differ from the key's "
                f"{key.shape[axis]}. Keys and values belong in pairs."
            )
    _check_same("key", key, there.get("key"), "D")
    _check_same("value", value, there.get("value"), "E")


def _check_same(name: str, step: Tensor, there: Tensor | None, width: str) -> None:
    """Raises for a step that does not fit what the cache holds."""
    if there is None:
        return
    for axis, letter in ((0, "B"), (1, "G"), (3, width)):
        if step.shape[axis] != there.shape[axis]:
            raise ValueError(
                f"{name}: {step.shape[axis]} entries along axis {letter} ({axis}) differ from the cache's "
                f"{there.shape[axis]}. Call reset() to begin anew."
            )
    if step.dtype != there.dtype:
        raise TypeError(f"{name}: dtype {step.dtype} differs from the cache's {there.dtype}.")
    if step.device != there.device:
        raise ValueError(
            f"{name}: on {step.device}, but the cache is on {there.device}. "
            f"Move it with .to({str(there.device)!r})."
        )


def counts_of(name: str, given: Any, batch: int, most: int, letter: str) -> list[int]:
    """One count from 0 to ``most`` per batch entry."""
    if given is None:
        return [most] * batch
    counts = given_integers(name, given)
    if len(counts) != batch:
        raise ValueError(f"{name}: {len(counts)} numbers for a batch of B={batch} (axis B).")
    for count in counts:
        if not 0 <= count <= most:
            raise ValueError(f"{name}: {count} does not lie between 0 and {letter}={most}.")
    return counts


def given_integers(name: str, given: Any) -> list[int]:
    """Integers along one axis, as Python has them."""
    tensor = integers_tensor(name, given)
    if tensor.dim() != 1:
        raise ValueError(f"{name}: expected one axis, got shape {list(tensor.shape)}.")
    if not is_eager(tensor):
        raise TypeError(f"{name}: a cache needs numbers that can be looked at; this tensor has none.")
    return [int(number) for number in tensor.tolist()]

"""Several copies of an input along the batch axis, and the output taken apart again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from sightline.removing.question import Given


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same structure, of lists, tuples and mappings, with other tensors; other objects stay."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping) and type(value) is not dict:
        try:
            return type(value)(**{name: mapped(one, change) for name, one in value.items()})
        except TypeError:
            return {name: mapped(one, change) for name, one in value.items()}
    if isinstance(value, dict):
        return {name: mapped(one, change) for name, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(one, change) for one in value))
    if type(value) in (list, tuple):
        return type(value)(mapped(one, change) for one in value)
    return value


def batch_of(given: Given) -> int | None:
    """How many entries the inputs have; ``None`` where their tensors do not agree."""
    sizes: set[int | None] = set()

    def note(tensor: Tensor) -> Tensor:
        sizes.add(tensor.shape[0] if tensor.dim() and not tensor.is_nested else None)
        return tensor

    mapped((given.args, given.kwargs), note)
    return sizes.pop() if len(sizes) == 1 else None


def stacked(given: Given, batch: int, count: int) -> Given:
    """The inputs, ``count`` times along the batch axis."""
    args, kwargs = mapped((given.args, given.kwargs), lambda tensor: repeated(tensor, batch, count))
    return Given(args, kwargs)


def repeated(tensor: Tensor, batch: int, count: int) -> Tensor:
    """A tensor [batch, ...], ``count`` times; one that has no batch stays as it is."""
    if count == 1 or not tensor.dim() or tensor.shape[0] != batch:
        return tensor
    if batch == 1:
        return tensor.expand(count, *tensor.shape[1:])
    return torch.cat([tensor] * count)


def entry(output: Any, batch: int, count: int, place: int) -> Any:
    """What the output holds of one of ``count`` copies."""

    def own(tensor: Tensor) -> Tensor:
        if tensor.dim() and tensor.shape[0] == batch * count:
            return tensor[place * batch : (place + 1) * batch]
        return tensor

    return output if count == 1 else mapped(output, own)

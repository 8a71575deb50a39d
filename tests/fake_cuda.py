"""Fake tensors that lie on CUDA, where PyTorch was built without it: shapes, dtypes and devices, and no numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

CUDA = torch.device("cuda", 0)
_OWN = Tensor.__getitem__


@contextmanager
def fake_cuda() -> Iterator[torch.device]:
    """Fake tensors inside the block.

    ``tensor[...]`` and ``~tensor`` ask no driver for a device here, as PyTorch's own do.
    """
    own = {"__getitem__": _item, "__invert__": lambda tensor: torch.bitwise_not(tensor)}
    # Of fake tensors alone: a class that had such a method for a time stays a sequence for CPython, and
    # torch.tensor would look for the length of every number that is a Tensor.
    with FakeTensorMode(), mock.patch.multiple(FakeTensor, **own):
        yield CUDA


def _item(tensor: Tensor, index: Any) -> Tensor:
    """By the operators that indexing consists of: integers, slices, Ellipsis and None, or tensors."""
    places = index if isinstance(index, tuple) else (index,)
    if isinstance(tensor, FakeTensor) and all(
        one == slice(None) or isinstance(one, Tensor) for one in places
    ):
        chosen = [one if isinstance(one, Tensor) else None for one in places]
        return tensor if not any(one is not None for one in chosen) else torch.ops.aten.index(tensor, chosen)
    known = (int, slice, type(None), type(Ellipsis))
    if not isinstance(tensor, FakeTensor) or not all(isinstance(one, known) for one in places):
        return _OWN(tensor, index)
    taken = sum(one is not None and one is not Ellipsis for one in places)
    if Ellipsis in places:
        at = places.index(Ellipsis)
        places = (*places[:at], *[slice(None)] * (tensor.dim() - taken), *places[at + 1 :])
    axis = 0
    for one in places:
        if one is None:
            tensor, axis = tensor.unsqueeze(axis), axis + 1
        elif isinstance(one, slice):
            start, stop, step = one.indices(tensor.shape[axis])
            tensor, axis = torch.ops.aten.slice(tensor, axis, start, max(start, stop), step), axis + 1
        else:
            tensor = tensor.select(axis, one)
    return tensor

"""Room for what the native core writes, laid out as ``problem.py`` says."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.backends.native.pack import DTYPES
from sightline.backends.native.structs import STRIDED_GRADIENTS
from sightline.backends.problem import empty_context, empty_gradient


def room_for_context(query: Tensor, value_width: int) -> Tensor:
    """``empty_context``, by a shorter way where PyTorch's ``empty_like`` lays it out the same."""
    if value_width == query.shape[3] and _alike(query):
        return torch.empty_like(query)
    return empty_context(query, value_width)


def room_for_gradient(like: Tensor) -> Tensor:
    """Room for the gradient of a query, key or value, likewise."""
    return torch.empty_like(like) if _alike(like) else empty_context(like, like.shape[3])


def room_for_gradient_of(name: str, like: Tensor) -> Tensor:
    """Room for the gradient of any field, in the dtype that the core gives it."""
    strided = name in STRIDED_GRADIENTS and like.dtype in DTYPES
    if strided and name != "bias":
        return room_for_gradient(like)
    return empty_gradient(name, like, like.dtype if strided else torch.float32)


def _alike(tensor: Tensor) -> bool:
    """Whether the batch's axis is the outermost and the width's the innermost, and none overlap.

    Then the order of strides that ``empty_like`` keeps is that of one of ``empty_context``'s two layouts.
    """
    of_batch, of_head, of_row, of_width = tensor.stride()
    width: int = tensor.shape[3]
    return of_width == 1 and of_batch >= of_head >= width <= of_row <= of_batch

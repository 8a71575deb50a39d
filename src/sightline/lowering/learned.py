"""A scale and a softcap that are tensors: learned temperatures and caps, which get gradients.

A kernel takes numbers. The scale moves into the query as ``scale / number``, which is 1 and leaves every bit
as it was, while derivatives pass through it. A cap cannot be moved, so it stays a tensor in the problem.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.common import dispatcher
from sightline.common.check import is_eager
from sightline.lowering.checks import finite, positive


def scaled(query: Tensor, scale: Tensor) -> tuple[Tensor, float]:
    """The query and the number that take the place of the query and a scale tensor."""
    _check_single("scale", scale)
    value = _value_of(scale)
    number = 1.0 if value is None else finite("scale", value)
    if not _is_followed(scale):
        return query, number
    number = number or 1.0
    return query * (scale.reshape(()) / number).to(query.dtype), number


def capped(softcap: Tensor) -> float | Tensor:
    """The softcap as a number, or the tensor itself where derivatives reach it."""
    _check_single("softcap", softcap)
    if torch.compiler.is_compiling():
        raise NotImplementedError("softcap: a tensor cannot be compiled; give a number, or call it eagerly.")
    value = _value_of(softcap)
    if value is not None:
        positive("softcap", value)
    if value is None or _is_followed(softcap):
        return softcap.reshape(())
    return value


def _check_single(name: str, tensor: Tensor) -> None:
    if tensor.numel() != 1 or not tensor.is_floating_point():
        remedy = (
            "For a scale per head multiply the query by it, and give scale=1."
            if name == "scale"
            else "All heads share one."
        )
        raise TypeError(
            f"{name}: expected a number or a floating tensor with one entry, got a tensor of shape "
            f"{list(tensor.shape)}, {tensor.dtype}. {remedy}"
        )


def _is_followed(tensor: Tensor) -> bool:
    """Whether derivatives may reach it."""
    recorded = tensor.requires_grad and torch.is_grad_enabled()
    return recorded or torch.compiler.is_compiling() or dispatcher.is_transformed()


def _value_of(tensor: Tensor) -> float | None:
    """Its number; ``None`` where it has none yet, or one for each sample of a vmap."""
    if not is_eager(tensor):
        return None
    inside = dispatcher.unwrapped(tensor)
    return float(inside.detach()) if inside.numel() == 1 else None

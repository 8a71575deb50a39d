"""Checks of what a layer is given."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.common.check import check_tensor
from sightline.nn.linear import Linear


def check_rows(name: str, x: Tensor, width: int, projection: nn.Module | None = None) -> None:
    """Raises for what is no floating tensor [B,N,width], dense or jagged.

    Args:
        name: of the argument.
        x: what was given.
        width: C of the layer.
        projection: what x goes into, whose dtype and device must then be those of x.
    """
    if isinstance(x, Tensor) and x.layout is torch.jagged:
        if x.dim() != 3 or not x.is_floating_point():
            raise ValueError(f"{name}: expected floating [B,j,C], got {x.dtype} of shape {list(x.shape)}.")
    else:
        check_tensor(name, x, "[B,N,C]")
    if x.shape[-1] != width:
        raise ValueError(f"{name}: C={x.shape[-1]} (the last axis) differs from the layer's width {width}.")
    if projection is not None:
        check_projection(name, x, projection)


def check_projection(name: str, x: Tensor, projection: nn.Module) -> None:
    """Raises for an input of another dtype or device than a projection.

    A layer that stands in for one (quantised, sharded, hooked, offloaded) takes what it takes.
    """
    hooked = projection._forward_pre_hooks or "forward" in projection.__dict__
    if isinstance(projection, nn.Linear) and type(projection) in (nn.Linear, Linear) and not hooked:
        check_weight(name, x, projection.weight)


def check_weight(name: str, x: Tensor, weight: Tensor) -> None:
    """Raises for an input of another dtype or device than the weight that it meets."""
    if x.device != weight.device:
        raise ValueError(
            f"{name}: on {x.device}, but the weights are on {weight.device}. Move one of them with .to()."
        )
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(
            f"{name}: dtype {x.dtype} differs from the weights' {weight.dtype}. Cast one of them with .to()."
        )

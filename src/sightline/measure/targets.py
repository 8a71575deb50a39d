"""Target positions of a product of layers, as the vectors that are carried through it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.common.check import check_device, integer, integers_tensor
from sightline.matrix import AttentionMatrix

Targets = int | Sequence[int] | Tensor


def one_hot(matrix: AttentionMatrix, targets: Targets) -> Tensor:
    """[B,N,T]: a 1 at each target."""
    b, _, n, _ = matrix.sizes
    if single(targets):
        positions = torch.tensor(integer("targets", targets), device=matrix.device)
    else:
        positions = integers_tensor("targets", targets, "[T]", matrix.device)
    check_device("targets", positions, matrix.device)
    if positions.dim() > 1 or not positions.numel():
        raise ValueError(f"targets: expected a position or several [T], got shape {list(positions.shape)}.")
    least, most = int(positions.min()), int(positions.max())
    if not -n <= least <= most < n:
        raise ValueError(f"targets: positions from {least} to {most} do not fit N={n} (axis N).")
    hot = torch.nn.functional.one_hot(positions.reshape(-1).long() % n, n)
    return hot.T.to(matrix.lse.dtype).expand(b, n, -1)


def per_target(rows: Tensor, targets: Targets) -> Tensor:
    """[B,N,T] -> [B,T,N], or [B,N] where one target was given as a number."""
    return rows[..., 0] if single(targets) else rows.transpose(1, 2).contiguous()


def single(targets: Targets) -> bool:
    """Whether one target was given, and no list, array or tensor of them."""
    return not isinstance(targets, (Sequence, set)) and not getattr(targets, "ndim", 0)

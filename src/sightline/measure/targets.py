"""Target positions of a product of layers, as the vectors that are carried through it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.common.check import check_device, check_integers
from sightline.matrix import AttentionMatrix

Targets = int | Sequence[int] | Tensor


def one_hot(matrix: AttentionMatrix, targets: Targets) -> Tensor:
    """[B,N,T]: a 1 at each target."""
    b, _, n, _ = matrix.sizes
    positions = torch.as_tensor(targets, device=None if isinstance(targets, Tensor) else matrix.device)
    check_integers("targets", positions)
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
    single = isinstance(targets, int) or (isinstance(targets, Tensor) and targets.dim() == 0)
    return rows[..., 0] if single else rows.transpose(1, 2).contiguous()

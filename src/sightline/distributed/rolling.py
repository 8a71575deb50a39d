"""Rollout through matrices that several processes share: vectors by matrices, each process its part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.common.check import flag, shown
from sightline.common.check import share as checked_share
from sightline.distributed.matrix import ShardedMatrix


def rollout(
    A: ShardedMatrix | Sequence[Any],
    targets: int | Sequence[int],
    *,
    residual: float = 0.5,
    normalize: bool = True,
) -> Tensor:
    """How much each of the process's own positions reaches a target position through all layers.

    ``e_tᵀ Ã_L · … · Ã_1`` with ``Ã = residual · I + (1 - residual) · mean over heads``, rows scaled to sum to
    1: what :func:`sightline.measure.rollout` gives for the matrix of one process. All processes call it
    together; each layer takes one transposed product.

    Args:
        A: a sharded matrix [B,H,N,N], or a sequence of them or of the calls of a trace, first layer first.
        targets: positions in the whole, one or several; negative ones count from the end.
        residual: share of the residual connection, 0 to 1.
        normalize: scale each row of the mix to sum to 1.

    Returns:
        [B,n] of the own positions for one target, [B,T,n] for T of them.

    Raises:
        TypeError: for other matrices; ValueError: unless N = M in every layer and equal lengths, and for
            targets out of range; ProcessError: where another process has ended, hangs or failed.

    Source: Abnar & Zuidema 2020, "Quantifying attention flow in Transformers".

    Example:
        >>> import sightline, torch
        >>> from sightline import distributed
        >>> torch.distributed.init_process_group(
        ...     "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> with distributed.context_parallel():
        ...     q, k, v = torch.zeros(3, 1, 2, 3, 4)
        ...     _, A = sightline.attention(q, k, v, mask=sightline.causal(), return_matrix=True)
        >>> distributed.rollout([A], 1)  # half from the residual, half spread over two
        tensor([[0.2500, 0.7500, 0.0000]])
        >>> torch.distributed.destroy_process_group()
    """
    layers = _layers(A)
    residual, normalize = checked_share("residual", residual), flag("normalize", normalize)
    length = layers[0].shape[-1]
    picked = [_place(one, length) for one in ([targets] if isinstance(targets, int) else targets)]
    positions = layers[0].positions
    rows = (positions[:, None] == positions.new_tensor(picked)).double().expand(layers[0].sizes[0], -1, -1)
    for matrix in reversed(layers):
        total = matrix.row_sums().mean(1)
        whole = residual + (1 - residual) * total if normalize else torch.ones_like(total)
        scale = torch.where(whole > 0, 1 / whole.masked_fill(whole == 0, 1), 0)
        given = rows * ((1 - residual) * scale)[..., None]
        passed = matrix.transposed_product(given[:, None].expand(-1, matrix.sizes[1], -1, -1))
        rows = passed.double().mean(1) + (residual * scale)[..., None] * rows
    found = rows.to(layers[0].lse.dtype)
    return found[..., 0] if isinstance(targets, int) else found.transpose(1, 2)


def _layers(A: Any) -> list[ShardedMatrix]:
    given = [A] if isinstance(A, ShardedMatrix) else [getattr(one, "matrix", one) for one in A]
    for one in given:
        if not isinstance(one, ShardedMatrix):
            raise TypeError(
                f"A: expected matrices of several processes, got {shown(one)}. For those of one use "
                "sightline.measure.rollout."
            )
        if one.ndim != 4 or one.shape[2] != one.shape[3] or one.shape[2] != given[0].shape[2]:
            raise ValueError(
                f"A: shape {list(one.shape)}, but rollout takes [B,H,N,N] with N (axes 2 and 3) alike in all "
                f"layers; the first has {list(given[0].shape)}."
            )
    if not given:
        raise ValueError("A: there is no matrix in it. Give at least one layer.")
    return given


def _place(target: Any, length: int) -> int:
    if isinstance(target, bool) or not isinstance(target, int):
        raise TypeError(f"targets: expected a position or several, got {shown(target)}.")
    if not -length <= target < length:
        raise ValueError(f"targets: {target} is out of range for N={length} positions (axis 2).")
    return target % length

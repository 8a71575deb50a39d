"""Sink penalties: weight on the first keys, above what is allowed."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.backends.problem import compute_dtype
from sightline.common.check import share
from sightline.losses.given import over_layers, reduced
from sightline.matrix import AttentionMatrix
from sightline.measure.keys import Keys, chosen
from sightline.measure.rows import counted
from sightline.measure.subject import Layers


def sink_mass(
    A: Layers,
    keys: Keys = 1,
    *,
    allowance: float = 0.0,
    queries: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Takes weight off the first keys, where heads park what they have no use for.

    ``max(0, Σ_{j in keys} wᵢⱼ − allowance)`` of each row i. A row that may see nothing else, as the first one
    under a causal mask, does not count. What a learned sink takes is no weight on a key.

    Args:
        A: AttentionMatrix [B,H,N,M], or a call that holds one; of a sequence of them, as
            :func:`~sightline.losses.watch` gives, the mean is taken.
        keys: how many first keys (of those that some query of the batch entry may see, so that left padding
            is skipped), or which: a slice, positions [K] or [B,K], a bool tensor [M] or [B,M]. Default: the
            first.
        allowance: the share of weight that costs nothing. Default: 0.
        queries: bool [N] or [B,N], which queries count; leave padding out here. Default: all.
        reduction: "mean" over all rows that count, "heads" [H], or "none" [B,H,N] with 0 for the others.

    Returns:
        The loss, float32 or better; 0 where no row counts.

    Raises:
        ValueError: for an allowance outside [0, 1], keys that there are not, or a detached matrix while
            gradients are on; TypeError: for what is no matrix.

    Sources: Xiao et al. 2023, "Efficient streaming language models with attention sinks"; Gu et al. 2024,
    "When attention sink emerges in language models". The penalty is ours; they name and explain the sink.

    Example:
        >>> import sightline, torch
        >>> query, key = torch.randn(2, 1, 2, 10, 4).requires_grad_()
        >>> A = sightline.AttentionMatrix(query, key, mask=sightline.causal(), detach=False)
        >>> sightline.losses.sink_mass(A, allowance=0.1).requires_grad
        True
    """
    allowed = share("allowance", allowance)

    def of_one(matrix: AttentionMatrix) -> Tensor:
        sinks = chosen(matrix, keys)
        # A product, whose derivative is one pass over the matrix however many keys there are.
        on_sinks = (matrix @ sinks[:, None, :, None].to(compute_dtype(matrix.problem)))[..., 0]
        values = (on_sinks - allowed).clamp(min=0)
        return reduced(values, counted(matrix, _sees_others(matrix, sinks), queries), reduction)

    return over_layers(A, reduction, of_one)


def _sees_others(matrix: AttentionMatrix, keys: Tensor) -> Tensor:
    """Whether each row may see a key besides the chosen ones (bool [1|B,M]): bool [B,H,N]."""
    b, h, n, m = matrix.sizes
    others = ~keys.expand(b, m)
    ranges = matrix.problem.ranges
    if not matrix.only_ranges:
        sees = torch.zeros((b, h, n), dtype=torch.bool, device=matrix.device)
        for block in matrix.blocks():
            seen = block.visible & others[block.batch, None, None, block.cols]
            sees[block.batch, :, block.rows] |= seen.any(-1)
        return sees
    if ranges is None:
        return others.any(-1)[:, None, None].expand(b, h, n)
    before = torch.nn.functional.pad(others.long().cumsum(-1), (1, 0))  # how many of them lie before a key
    low, high = (ranges[..., side].long().expand(b, *ranges.shape[1:4]) for side in (0, 1))
    count = _at(before, high) - _at(before, low)
    return (count > 0).any(-1).expand(b, h, n)


def _at(before: Tensor, places: Tensor) -> Tensor:
    """``before`` [B,M+1] at places [B,1|H,1|N,R]."""
    return before.gather(1, places.flatten(1)).view(places.shape)

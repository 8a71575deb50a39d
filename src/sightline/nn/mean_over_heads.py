"""The attention weights averaged over heads, which are never stored either."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.matrix.like_tensor import LikeTensor


class MeanOverHeads(LikeTensor):
    """The attention weights averaged over heads, computed when they are asked for.

    ``mean[b,i,j] = 1/H · Σ_h A[b,h,i,j]``: [B,N,M], or [N,M] of one batch entry. Parts are dense tensors, a
    batch entry stays lazy, products need no weights; where a tensor is expected, a small one turns into it.
    Entropy and other readouts of single heads are those of ``matrix``: averaging first would change them.

    ``torch.equal``, ``torch.allclose`` and ``<`` compare as with a tensor; ``==`` stays the identity, as with
    the matrix.

    Args:
        matrix: AttentionMatrix [B,H,N,M] or [H,N,M].

    Raises:
        ValueError: for a matrix without an axis of heads.

    Example:
        >>> import sightline, torch
        >>> from sightline.nn import MeanOverHeads
        >>> mean = MeanOverHeads(sightline.AttentionMatrix(*torch.randn(2, 1, 4, 6, 8)))
        >>> mean.shape, mean[0, 2].shape, mean.matrix.entropy().shape
        (torch.Size([1, 6, 6]), torch.Size([6]), torch.Size([1, 4, 6]))
    """

    def __init__(self, matrix: AttentionMatrix) -> None:
        if matrix.ndim < 3:
            raise ValueError(f"matrix: shape {list(matrix.shape)} has no axis H to average over.")
        self.matrix = matrix

    @property
    def shape(self) -> torch.Size:
        """[B,N,M], or [N,M]."""
        *batch, _, n, m = self.matrix.shape
        return torch.Size([*batch, n, m])

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of dense parts."""
        return self.matrix.dtype

    @property
    def device(self) -> torch.device:
        """Where the query lies."""
        return self.matrix.device

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow from the weights."""
        return self.matrix.requires_grad

    def detach(self) -> MeanOverHeads:
        """The same without autograd, still lazy."""
        return MeanOverHeads(self.matrix.detach())

    def dense(self, limit: int | None = None) -> Tensor:
        """All averaged weights; the limit is that of all heads, see :meth:`AttentionMatrix.dense`."""
        return self.matrix.dense(limit).mean(-3)

    def __getitem__(self, index: Any) -> Any:
        """Exact averaged weights of a part; a whole batch entry stays lazy. As ``AttentionMatrix[...]``."""
        given = list(index) if isinstance(index, tuple) else [index]
        dots = [place for place, one in enumerate(given) if one is Ellipsis]
        if len(given) - len(dots) > self.ndim:
            raise IndexError(f"index: too many indices ({len(given)}) for shape {list(self.shape)}.")
        at = dots[0] if dots else len(given)
        missing = self.ndim - len(given) + len(dots)
        full = [*given[:at], *[slice(None)] * missing, *given[at + 1 :]]
        *batch, rows, cols = full
        part = self.matrix[(*batch, slice(None), rows, cols)]
        if isinstance(part, AttentionMatrix):
            return MeanOverHeads(part)
        gone = sum(not isinstance(one, slice) for one in (rows, cols))
        return part.mean(gone - 3)

    def __matmul__(self, x: Tensor) -> Tensor:
        """mean @ x, without the weights: [B,N,F] for x [M,F] or [B,M,F]; [B,N] for x [M]."""
        several = x.unsqueeze(-3) if x.dim() > 2 else x
        product = self.matrix @ several
        return product.mean(-2 if x.dim() == 1 else -3)

    def __rmatmul__(self, x: Tensor) -> Tensor:
        """x @ mean: [B,F,M] for x [F,N] or [B,F,N]; [B,M] for x [N]."""
        several = x.unsqueeze(-3) if x.dim() > 2 else x
        product = self.matrix.__rmatmul__(several)
        return product.mean(-2 if x.dim() == 1 else -3)

    def received(self) -> Tensor:
        """Σ over queries of the averaged weight that each key gets: [B,M]."""
        return self.matrix.received().mean(-2)

    def __repr__(self) -> str:
        return f"MeanOverHeads(shape={list(self.shape)}, dtype={self.dtype}, device={self.device})"

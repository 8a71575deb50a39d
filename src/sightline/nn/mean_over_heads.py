"""The attention weights averaged over heads, which are never stored either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from sightline.common.check import kind
from sightline.matrix import AttentionMatrix
from sightline.matrix.like_tensor import LikeTensor


class MeanOverHeads(LikeTensor):
    """The attention weights averaged over heads, computed when they are asked for.

    ``mean[b,i,j] = 1/H · Σ_h A[b,h,i,j]``: [B,N,M], or [N,M] of one batch entry. Parts are dense tensors, a
    batch entry stays lazy, products need no weights; where a tensor is expected, a small one turns into it.
    Entropy and other readouts of single heads are those of ``matrix``: averaging first would change them.

    ``torch.equal``, ``==`` and ``<`` compare as with a tensor.

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

    matrix: AttentionMatrix

    def __new__(cls, matrix: AttentionMatrix) -> Self:
        """The mean of a matrix; nothing is computed yet."""
        kind("matrix", matrix, AttentionMatrix, "an AttentionMatrix")
        if matrix.ndim < 3:
            raise ValueError(f"matrix: shape {list(matrix.shape)} has no axis H to average over.")
        *batch, _, n, m = matrix.shape
        made = cls._without_storage([*batch, n, m], matrix.dtype, matrix.device)
        made.matrix = matrix
        return made

    def _wants_grad(self) -> bool:
        return self.matrix.requires_grad

    def detach(self) -> MeanOverHeads:
        """The same without autograd, still lazy."""
        return MeanOverHeads(self.matrix.detach())

    def __reduce_ex__(self, _: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return type(self), (self.matrix,)

    def dense(self, limit: float | None = None) -> Tensor:
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

    def __matmul__(self, x: Any) -> Tensor:
        """mean @ x, without the weights: [B,N,F] for x [M,F] or [B,M,F]; [B,N] for x [M]."""
        several = x.unsqueeze(-3) if x.dim() > 2 else x
        product = self.matrix.__matmul__(several)
        return product.mean(-2 if x.dim() == 1 else -3)

    def __rmatmul__(self, x: Any) -> Tensor:
        """x @ mean: [B,F,M] for x [F,N] or [B,F,N]; [B,M] for x [N]."""
        several = x.unsqueeze(-3) if x.dim() > 2 else x
        product = self.matrix.__rmatmul__(several)
        return product.mean(-2 if x.dim() == 1 else -3)

    def received(self) -> Tensor:
        """Σ over queries of the averaged weight that each key gets: [B,M]."""
        return self.matrix.received().mean(-2)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"MeanOverHeads(shape={list(self.shape)}, dtype={self.dtype}, device={self.device})"


torch.serialization.add_safe_globals([MeanOverHeads])  # torch.load reads it back by default

"""The attention matrix and its transpose, put together from what they can do."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.biases import Bias
from sightline.common.slots import matrix_html
from sightline.lowering import lower
from sightline.masks import Mask
from sightline.matrix.like_tensor import LikeTensor
from sightline.matrix.parts import Parts
from sightline.matrix.products import Products
from sightline.matrix.readouts import ReadoutMethods


class AttentionMatrix(Parts, ReadoutMethods, Products):
    """The exact attention weights [B,H,N,M] of a query and a key, computed when they are asked for.

    ``A[b,h,i,j] = exp(masked[b,h,i,j] - lse[b,h,i])``. Holds the query, the key and one number per row;
    memory is linear in N. Detached from autograd unless ``detach=False``.

    A part of the rows or columns comes as a dense tensor; whole batches and heads stay lazy: ``A[0]``,
    ``A[:, 3:5]`` and ``A[0, 3]`` are AttentionMatrix objects again. Where a tensor is expected, a small
    matrix turns into one.

    Args:
        query: [B,H,N,D].
        key: [B,G,M,D].
        value: [B,G,M,E], kept for those who weigh values; not needed for the weights.
        mask, bias, scale, softcap, sinks: as in :func:`sightline.attention`.
        detach: whether to leave autograd. With ``False`` gradients flow from parts and readouts to the
            query, the key and the biases.

    Raises:
        ValueError, TypeError: as :func:`sightline.attention`; RuntimeError on reading, if the query or key
        was changed in place since.

    Source: Rabe & Staats 2021, "Self-attention does not need O(n²) memory" (the lse that gives every weight).

    Example:
        >>> import sightline, torch
        >>> query, key = torch.randn(2, 1, 4, 6, 8)
        >>> A = sightline.AttentionMatrix(query, key, mask=sightline.causal())
        >>> A.shape, A[0, 1, 2:4, :3].shape, A.entropy().shape
        (torch.Size([1, 4, 6, 6]), torch.Size([2, 3]), torch.Size([1, 4, 6]))
    """

    def __init__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor | None = None,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
        detach: bool = True,
    ) -> None:
        problem = lower(query, key, value, mask=mask, bias=bias, scale=scale, softcap=softcap, sinks=sinks)
        self._init(problem, None, detach)

    def _repr_html_(self) -> str:
        """What a notebook shows: the explorer of a small matrix, pictures of some heads of a large one."""
        return matrix_html(self)

    @property
    def T(self) -> TransposedMatrix:
        """The transposed matrix, lazy: rows are keys."""
        return TransposedMatrix(self)

    mT = T


class TransposedMatrix(LikeTensor):
    """Aᵀ, lazy: ``A.T @ x`` sums over queries what ``A @ x`` sums over keys."""

    def __init__(self, matrix: AttentionMatrix) -> None:
        self._matrix = matrix

    @property
    def T(self) -> AttentionMatrix:
        """The matrix itself."""
        return self._matrix

    mT = T

    @property
    def shape(self) -> torch.Size:
        """[B,H,M,N]."""
        *rest, n, m = self._matrix.shape
        return torch.Size([*rest, m, n])

    @property
    def dtype(self) -> torch.dtype:
        """As of the matrix itself."""
        return self._matrix.dtype

    @property
    def device(self) -> torch.device:
        """As of the matrix itself."""
        return self._matrix.device

    def __matmul__(self, x: Tensor) -> Tensor:
        """Aᵀ @ x: [B,H,M,F] for x [N,F], [H,N,F] or [B,H,N,F]; [B,H,M] for x [N]."""
        return self._matrix.transposed_product(x)

    def __rmatmul__(self, x: Tensor) -> Tensor:
        """x @ Aᵀ: [B,H,F,N]."""
        if x.dim() == 1:
            return self._matrix @ x
        return (self._matrix @ x.transpose(-1, -2)).transpose(-1, -2)

    def dense(self, limit: int | None = None) -> Tensor:
        """All weights, [B,H,M,N]; see :meth:`AttentionMatrix.dense`."""
        return self._matrix.dense(limit).transpose(-1, -2)

    def __repr__(self) -> str:
        return f"{self._matrix!r}.T"

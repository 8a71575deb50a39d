"""The attention matrix and its transpose, put together from what they can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from sightline.biases import Bias
from sightline.common.check import flag
from sightline.common.slots import matrix_html
from sightline.lowering import lower
from sightline.masks import Mask
from sightline.matrix.core import rebuilt
from sightline.matrix.divergence import Divergences
from sightline.matrix.like_tensor import LikeTensor
from sightline.matrix.parts import Parts
from sightline.matrix.products import Products
from sightline.matrix.readouts import ReadoutMethods


class AttentionMatrix(Parts, ReadoutMethods, Products, Divergences):
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
        detach: whether to leave autograd. With ``False`` gradients of any order flow from parts and readouts
            to query, key, biases and sinks: by recomputation, so that memory stays linear in the sequence.

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

    def __new__(
        cls,
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
    ) -> Self:
        """The matrix of a query and a key; nothing is computed yet."""
        flag("detach", detach)
        problem = lower(query, key, value, mask=mask, bias=bias, scale=scale, softcap=softcap, sinks=sinks)
        return cls.of_problem(problem, None, detach)

    def _repr_html_(self) -> str:
        """What a notebook shows: the explorer of a small matrix, pictures of some heads of a large one."""
        return matrix_html(self)

    @property
    def T(self) -> TransposedMatrix:  # type: ignore[override]
        """The transposed matrix, lazy: rows are keys."""
        return TransposedMatrix(self)

    mT = T


class TransposedMatrix(LikeTensor):
    """Aᵀ, lazy: ``A.T @ x`` sums over queries what ``A @ x`` sums over keys."""

    _matrix: AttentionMatrix

    def __new__(cls, matrix: AttentionMatrix) -> Self:
        """The transposed matrix of a matrix; nothing is computed yet."""
        *rest, n, m = matrix.shape
        made = cls._without_storage([*rest, m, n], matrix.dtype, matrix.device)
        made._matrix = matrix
        return made

    @property
    def T(self) -> AttentionMatrix:  # type: ignore[override]
        """The matrix itself."""
        return self._matrix

    mT = T

    def detach(self) -> Self:
        """The same without autograd, still lazy."""
        return type(self)(self._matrix.detach())

    def _wants_grad(self) -> bool:
        return self._matrix.requires_grad

    def __matmul__(self, x: Any) -> Tensor:
        """Aᵀ @ x: [B,H,M,F] for x [N,F], [H,N,F] or [B,H,N,F]; [B,H,M] for x [N]."""
        return self._matrix.transposed_product(x)

    def __rmatmul__(self, x: Any) -> Tensor:
        """x @ Aᵀ: [B,H,F,N]."""
        if x.dim() == 1:
            return self._matrix.__matmul__(x)
        return self._matrix.__matmul__(x.transpose(-1, -2)).transpose(-1, -2)

    def __reduce_ex__(self, _: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return type(self), (self._matrix,)

    def dense(self, limit: float | None = None) -> Tensor:
        """All weights, [B,H,M,N]; see :meth:`AttentionMatrix.dense`."""
        return self._matrix.dense(limit).transpose(-1, -2)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{self._matrix!r}.T"


# torch.load reads a matrix back by default: it is made from tensors and numbers, and those are checked.
torch.serialization.add_safe_globals([AttentionMatrix, TransposedMatrix, rebuilt])

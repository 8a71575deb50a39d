"""What the weights carry: weights times the length of the vectors that they weigh."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.common.check import check_device, check_tensor
from sightline.matrix import AttentionMatrix, Values
from sightline.matrix.indexing import as_slice
from sightline.measure.catalogue import catalogued
from sightline.measure.subject import Measurable, Measured, measured


@catalogued(
    formula="‖w_ij f_h(x_j)‖₂ = w_ij ‖v_hj‖₂, or w_ij ‖W_O^h v_hj‖₂ with the output projection",
    unit="length of a vector",
    source="Kobayashi et al. 2020, Attention is not only a weight: analyzing Transformers with vector norms",
    caveat="Long vectors may still cancel in the sum over keys and heads, and what follows (residual, "
    "normalization, MLP) is left out.",
)
def weighted_norms(A: Measurable, output: Tensor | None = None, *, unverified: bool = False) -> WeightedNorms:
    """How long the vectors are that each key adds to each query, instead of the bare weights.

    Args:
        A: AttentionMatrix [B,H,N,M] that holds its value [B,G,M,E], or a traced call that holds one.
        output: [F, H·E], the weight of the output projection as ``torch.nn.Linear`` holds it. Default: the
            vectors before the projection.

    Returns:
        A :class:`WeightedNorms`: ``.norms`` [B,H,M], ``.part(rows, cols)``, ``.received()``,
        ``.row_sums()``, ``.topk(k)``; nothing N x M is kept. A fully masked row reads 0.

    Raises:
        ValueError: without a value, or for an output of another shape.

    Example:
        >>> import sightline.measure, torch
        >>> query, key = torch.zeros(2, 1, 1, 2, 4)
        >>> value = torch.tensor([[[[3.0, 4.0], [0.0, 1.0]]]])
        >>> norms = sightline.measure.weighted_norms(sightline.AttentionMatrix(query, key, value))
        >>> norms.norms, norms.part()
        (tensor([[[5., 1.]]]), tensor([[[[2.5000, 0.5000], [2.5000, 0.5000]]]]))
    """
    one = measured(A, unverified)
    if one.matrix.value is None:
        raise ValueError(
            "weighted_norms: this matrix holds no value. Make it with "
            "sightline.AttentionMatrix(query, key, value)."
        )
    return WeightedNorms(one, _norms(one.matrix, one.matrix.value, output))


class WeightedNorms:
    """The matrix ``w_ij · ‖f_h(x_j)‖``, lazy: made by :func:`weighted_norms`.

    Attributes:
        norms: [B,H,M], the lengths that the columns are multiplied with.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(torch.zeros(1, 1, 2, 4), *torch.ones(2, 1, 1, 3, 4))
        >>> norms = sightline.measure.weighted_norms(A)
        >>> norms.row_sums(), norms.topk(1).values.shape
        (tensor([[[2., 2.]]]), torch.Size([1, 1, 2, 1]))
    """

    def __init__(self, measured: Measured, norms: Tensor) -> None:
        self._measured = measured
        self._norms = norms
        self.norms = measured.shaped(norms)

    def part(self, rows: slice | int = slice(None), cols: slice | int = slice(None)) -> Tensor:
        """Some rows and columns, [B,H,n,m]; an integer keeps its axis, with size 1.

        Raises:
            MemoryError: past 1 GiB.
        """
        matrix = self._measured.matrix
        _, _, n, m = matrix.sizes
        row, col = as_slice(rows, n, "N"), as_slice(cols, m, "M")
        if (row.step, col.step) == (1, 1) and (len(range(n)[row]), len(range(m)[col])) == (n, m):
            weights = matrix.dense()
        else:
            weights = matrix[:, :, row, col]
        return self._measured.shaped(weights.to(self._norms.dtype) * self._norms[:, :, None, col])

    def received(self) -> Tensor:
        """Σ over queries of what each key adds: [B,H,M]. One pass."""
        return self._measured.shaped(self._measured.matrix.received() * self._norms)

    def row_sums(self) -> Tensor:
        """Σ over keys of what is added to each query: [B,H,N]. One pass.

        At least as long as the context vector itself: vectors that cancel are counted in full.
        """
        return self._measured.shaped((self._measured.matrix @ self._norms[..., None])[..., 0])

    def topk(self, k: int) -> Values:
        """Each row's k largest entries, descending, and their keys: (values, indices), [B,H,N,k]. One pass.

        Where fewer than k keys are visible, value 0 and index -1.

        Raises:
            ValueError: unless 1 <= k <= M.
        """
        m = self._measured.matrix.sizes[3]
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= m:
            raise ValueError(f"topk: k must be an integer from 1 to M={m} keys (axis M), got {k!r}.")
        largest = _largest(self._measured.matrix, self._norms, k)
        return Values(*map(self._measured.shaped, largest))


def _largest(matrix: AttentionMatrix, norms: Tensor, k: int) -> Values:
    """Each row's k largest w_ij · norms_j, and their keys, [B,H,N,k]."""
    values = torch.zeros((*matrix.sizes[:3], k), dtype=norms.dtype, device=norms.device)
    indices = torch.full_like(values, -1, dtype=torch.int64)
    for block in matrix.blocks():
        entries = block.weights * norms[block.batch, :, None, block.cols]
        # Hidden keys rank below visible ones with an entry of 0.
        entries = entries.masked_fill(block.masked == -torch.inf, -1)
        best, index = entries.topk(min(k, entries.shape[-1]))
        ranks = (block.batch, slice(None), block.rows, slice(best.shape[-1]))
        values[ranks] = best.clamp(min=0)
        indices[ranks] = torch.where(best >= 0, index + block.cols.start, -1)
    return Values(values, indices)


def _norms(matrix: AttentionMatrix, value: Tensor, output: Tensor | None) -> Tensor:
    """[B,H,M]: ‖v‖, or ‖W_O^h v‖ by the Gram matrix of each head's part: nothing [M,F] is stored."""
    b, h, _, m = matrix.sizes
    dtype, group = matrix.lse.dtype, h // value.shape[1]
    if output is None:
        of_groups: Tensor = torch.linalg.vector_norm(value.to(dtype), dim=-1)
        return of_groups.repeat_interleave(group, dim=1)
    width = value.shape[3]
    check_tensor("output", output, "[F,H·E]")
    check_device("output", output, matrix.device)
    if output.dim() != 2 or output.shape[1] != h * width:
        raise ValueError(
            f"output: expected the projection's weight [F, H·E] with H={h} and E={width}, got shape "
            f"{list(output.shape)}. torch.nn.Linear(H·E, F).weight has it; transpose what has [H·E, F]."
        )
    lengths = torch.empty((b, h, m), dtype=dtype, device=matrix.device)
    for head in range(h):
        columns = output[:, head * width : (head + 1) * width].double()
        vectors = value[:, head // group].double()
        squares = ((vectors @ (columns.T @ columns)) * vectors).sum(-1)
        lengths[:, head] = squares.clamp(min=0).sqrt()
    return lengths

"""Exact weights of single pairs: one key for each query."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.backends.pairs import pair_logits
from sightline.backends.problem import compute_dtype
from sightline.backends.row_sums import settled
from sightline.backends.softmax import sums_of, weights_of
from sightline.matrix.core import MatrixCore
from sightline.matrix.indexing import ALL


class Pairs(MatrixCore):
    """Reads single weights."""

    def _weights_at(self, rows: Tensor, keys: Tensor) -> Tensor:
        """The weights of ``rows`` [n] for ``keys`` [B,H,n] or [B,H,n,k], of the same shape."""
        self._unchanged()
        if not keys.numel():
            return keys.new_zeros(keys.shape, dtype=compute_dtype(self._problem))
        each = keys.unsqueeze(-1) if keys.dim() == 3 else keys
        masked = torch.stack([pair_logits(self._problem, rows, one) for one in each.unbind(-1)], -1)
        sums = sums_of(settled(self._problem, self._full_lse()), ALL, rows)
        return weights_of(masked, sums).view(keys.shape)

"""Exact weights of single pairs: one key for each query."""

from __future__ import annotations

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
        """The weights of ``rows`` [n] for ``keys`` [B,H,n], one for each: [B,H,n]."""
        self._unchanged()
        if not keys.numel():
            return keys.new_zeros(keys.shape, dtype=compute_dtype(self._problem))
        masked = pair_logits(self._problem, rows, keys)
        sums = sums_of(settled(self._problem, self._full_lse()), ALL, rows)
        return weights_of(masked[..., None], sums)[..., 0]

"""Exact weights and logits of parts of the matrix: by index, whole, along diagonals, one key per query."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sightline.backends.block import weights_of
from sightline.backends.grouped import grouped_product
from sightline.backends.pairs import pair_logits
from sightline.common.check import check_device, check_integers, fits
from sightline.common.vocabulary import STAGES
from sightline.matrix.blocks import Blocks
from sightline.matrix.indexing import ALL, as_slice, one_per_axis
from sightline.matrix.limits import check_size


class Parts(Blocks):
    """Dense parts of a matrix that is not stored."""

    def __getitem__(self, index: Any) -> Any:
        """Exact weights of a part; whole rows and columns stay lazy.

        Takes integers (negative too), slices and ``...``.

        Raises:
            IndexError: for an integer out of range or too many indices; TypeError for another kind of index.
        """
        batch, heads, rows, cols = one_per_axis(index, self.shape, self._dropped)
        _, _, n, m = self.sizes
        chosen = self.select(batch, heads)
        row_slice, col_slice = as_slice(rows, n, "N"), as_slice(cols, m, "M")
        if not isinstance(rows, int) and not isinstance(cols, int):
            whole = (range(n)[row_slice], range(m)[col_slice]) == (range(n), range(m))
            if whole:
                return chosen
        dense = chosen._dense(row_slice, col_slice, None)
        if isinstance(rows, int):
            dense = dense[..., 0, :]
        return dense[..., 0] if isinstance(cols, int) else dense

    def dense(self, limit: int | None = None) -> Tensor:
        """All weights [B,H,N,M] as a tensor of ``dtype``.

        Args:
            limit: bytes that it may take; 1 GiB by default.

        Raises:
            MemoryError: past the limit, saying what to call instead.
        """
        return self._dense(ALL, ALL, limit)

    def _dense(self, rows: slice, cols: slice, limit: int | None) -> Tensor:
        self._unchanged()
        b, h, n, m = self.sizes
        shape = [b, h, len(range(n)[rows]), len(range(m)[cols])]
        check_size(
            f"the dense weights of shape {shape}",
            math.prod(shape) * self.query.element_size(),
            limit,
        )
        return self._squeeze(self.part(rows, cols).to(self.dtype))

    def scores(self, rows: slice | int = ALL, cols: slice | int = ALL, stage: str = "scaled") -> Tensor:
        """A part of the matrix at one stage of attention, float32 or better: [B,H,n,m].

        Args:
            rows, cols: slices or integers; an integer keeps its axis, with size 1.
            stage: "scores" (q·k), "scaled" (times the scale), "capped", "biased", "masked" (-inf exactly
                where hidden), "weights", or "context": [B,H,n,E], what these keys add to these queries'
                contexts. A missing softcap or bias passes the stage before through.

        Raises:
            ValueError: for another stage, or "context" without a value. MemoryError: past 1 GiB.
        """
        if stage not in STAGES:
            raise ValueError(f"stage: there is no stage {stage!r}; known: {', '.join(STAGES)}.")
        self._unchanged()
        _, _, n, m = self.sizes
        row_slice, col_slice = as_slice(rows, n, "N"), as_slice(cols, m, "M")
        block = self.block(row_slice, col_slice)
        check_size("scores of this part", 4 * math.prod(block.shape))
        if stage == "context" and col_slice.step != 1 and self.value is not None:
            chosen = block.weights[..., :: col_slice.step]
            return self._squeeze(grouped_product(chosen, self.value[:, :, col_slice].to(chosen.dtype)))
        whole = block.stage(stage)
        return self._squeeze(whole if stage == "context" else whole[..., :: col_slice.step])

    def diagonal(self, offset: int = 0) -> Tensor:  # type: ignore[override]
        """A[i, i + offset], with the shape of ``torch.diagonal``: [B,H,L].

        Raises:
            ValueError: if the diagonal lies outside the matrix.
        """
        b, h, n, m = self.sizes
        first = max(0, -offset)
        length = min(n - first, m - first - offset)
        if length < 0 or (length == 0 and n and m):
            raise ValueError(f"diagonal: offset {offset} lies outside a matrix of N={n} by M={m}.")
        rows = torch.arange(first, first + length, device=self.device)
        return self._squeeze(self._pairs(rows, (rows + offset).expand(b, h, length)))

    def gather(self, indices: Tensor) -> Tensor:  # type: ignore[override]
        """A[i, indices[i]], one weight per query: [B,H,N]. An index of -1 reads 0, as topk's does.

        Args:
            indices: [N] or [B,H,N] (or what broadcasts to it) integers from -1 to M - 1.

        Raises:
            ValueError: for an index out of range or another shape.
        """
        b, h, n, m = self.sizes
        check_integers("gather indices", indices)
        check_device("gather indices", indices, self.device)
        wanted = fits("gather indices", indices, ("B", "H", "N"), (b, h, n)).expand(b, h, n).long()
        if wanted.numel() and not (int(wanted.min()) >= -1 and int(wanted.max()) < m):
            raise ValueError(
                f"gather: indices from {int(wanted.min())} to {int(wanted.max())} do not fit M={m} keys "
                "(axis M). -1 stands for no key."
            )
        weights = self._pairs(torch.arange(n, device=self.device), wanted.clamp(min=0))
        return self._squeeze(weights.masked_fill(wanted < 0, 0))

    def _pairs(self, rows: Tensor, keys: Tensor) -> Tensor:
        """One weight per query, [B,H,n]."""
        self._unchanged()
        masked = pair_logits(self._problem, rows, keys)
        return weights_of(masked[..., None], self._full_lse()[:, :, rows])[..., 0]

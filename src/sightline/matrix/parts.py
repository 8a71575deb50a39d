"""Exact weights and logits of parts of the matrix: by index, whole, along diagonals, one key per query."""

from __future__ import annotations

import math
from typing import Any, overload

import torch
from torch import Tensor

from sightline.common.check import check_device, choice, fits, integer, integers_tensor, number
from sightline.common.vocabulary import STAGES
from sightline.matrix.blocks import Blocks
from sightline.matrix.chosen import all_of, entry_count, lead_axes, needed_part
from sightline.matrix.indexing import ALL, Entry, as_slice, entries, is_basic, one_per_axis
from sightline.matrix.limits import check_size
from sightline.matrix.pairs import Pairs


class Parts(Blocks, Pairs):
    """Dense parts of a matrix that is not stored."""

    def __getitem__(self, index: Any) -> Any:
        """Exact weights of a part, as of a tensor; whole rows and columns stay lazy.

        Takes what a tensor takes: integers (negative too), slices, ``...``, ``None``, lists, tensors and
        arrays of integers or bools. Batch entries and heads stay lazy however they are chosen, as long as
        whole matrices are left; a part of rows or columns is dense, a tensor of its own, and no others
        are computed for it.

        Raises:
            IndexError: for an integer out of range, too many indices or a mask of another shape; TypeError
            for another kind of index; ValueError for a step below 1; MemoryError past 1 GiB.
        """
        given = index if isinstance(index, tuple) else (index,)
        if not is_basic(given):
            found = entries(given, self.shape, self.device)
            return self.dense()[index] if found is None else self._chosen(found)
        batch, heads, rows, cols = one_per_axis(given, self.shape, self._dropped)
        _, _, n, m = self.sizes
        chosen = self.select(batch, heads)
        row_slice, col_slice = as_slice(rows, n, "N"), as_slice(cols, m, "M")
        if not isinstance(rows, int) and not isinstance(cols, int):
            whole = (range(n)[row_slice], range(m)[col_slice]) == (range(n), range(m))
            if whole:
                return chosen
        dense = chosen._dense([row_slice], [col_slice], None)
        if isinstance(rows, int):
            dense = dense[..., 0, :]
        return dense[..., 0] if isinstance(cols, int) else dense

    def _chosen(self, found: list[Entry | None]) -> Any:
        """The part that entries choose: lazy where they leave whole matrices, else the weights they need."""
        _, _, n, m = self.sizes
        if all_of(found[-2], n) and all_of(found[-1], m):
            lead = lead_axes(found[:-2], self._dropped)
            if lead is not None:
                return self._selected(*lead)
        letters = [letter for letter, gone in zip("BH", self._dropped, strict=True) if not gone]
        needed, within = needed_part(found, [*letters, "N", "M"])
        part = self._selected(needed.get("B", ALL), needed.get("H", ALL), self._dropped)
        dense = part._dense(needed["N"], needed["M"], None)
        check_size("the weights chosen", entry_count(dense.shape, within) * dense.element_size())
        return dense[tuple(within)]

    def dense(self, limit: float | None = None) -> Tensor:
        """All weights [B,H,N,M] as a tensor of ``dtype``.

        Args:
            limit: bytes that it may take; 1 GiB by default.

        Raises:
            MemoryError: past the limit, saying what to call instead.
        """
        if limit is not None:
            limit = number("limit", limit, 0)
        return self._dense([ALL], [ALL], limit)

    def _dense(self, rows: list[slice], cols: list[slice], limit: float | None) -> Tensor:
        """The weights of some ranges of rows and columns, one after another."""
        self._unchanged()
        b, h, n, m = self.sizes
        shape = [b, h, sum(len(range(n)[some]) for some in rows), sum(len(range(m)[some]) for some in cols)]
        check_size(f"the dense weights of shape {shape}", math.prod(shape) * self.query.element_size(), limit)
        bands = [_joined([self.part(some, others) for others in cols], -1) for some in rows]
        return self._squeeze(_joined(bands, -2).to(self.dtype))

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
        choice("stage", stage, STAGES)
        self._unchanged()
        _, _, n, m = self.sizes
        row_slice, col_slice = as_slice(rows, n, "N"), as_slice(cols, m, "M")
        block = self.block(row_slice, col_slice)
        check_size("scores of this part", 4 * math.prod(block.shape))
        if stage == "context" and col_slice.step != 1 and self.value is not None:
            return self._squeeze(block.context(block.weights, col_slice.step))
        whole = block.stage(stage)
        return self._squeeze(whole if stage == "context" else whole[..., :: col_slice.step])

    def diagonal(self, offset: int = 0, dim1: int | None = None, dim2: int | None = None) -> Tensor:
        """A[i, i + offset] of each head, [B,H,L].

        With ``dim1=`` or ``dim2=`` as ``torch.diagonal``, whose own default is the first two axes.

        Raises:
            ValueError: if the diagonal lies outside the matrix.
        """
        if dim1 is not None or dim2 is not None:
            given = {"dim1": dim1, "dim2": dim2}
            return self.dense().diagonal(
                offset, **{name: dim for name, dim in given.items() if dim is not None}
            )
        offset = integer("diagonal offset", offset)
        b, h, n, m = self.sizes
        first = max(0, -offset)
        length = min(n - first, m - first - offset)
        if length < 0 or (length == 0 and n and m):
            raise ValueError(f"diagonal: offset {offset} lies outside a matrix of N={n} by M={m}.")
        rows = torch.arange(first, first + length, device=self.device)
        return self._squeeze(self._weights_at(rows, (rows + offset).expand(b, h, length)))

    @overload
    def gather(self, indices: Tensor) -> Tensor: ...

    @overload
    def gather(self, *args: Any, **kwargs: Any) -> Tensor: ...

    def gather(self, *args: Any, **kwargs: Any) -> Tensor:
        """A[i, indices[i]], one weight per query: [B,H,N]. An index of -1 reads 0, as topk's does.

        With ``dim`` and ``index`` as ``torch.gather``.

        Args:
            indices: [N] or [B,H,N] (or what broadcasts to it) integers from -1 to M - 1.

        Raises:
            ValueError: for an index out of range or another shape.
        """
        if len(args) + len(kwargs) != 1 or not (args or "indices" in kwargs):
            return self.dense().gather(*args, **kwargs)
        b, h, n, m = self.sizes
        indices = integers_tensor(
            "gather indices", args[0] if args else kwargs["indices"], "[N]", self.device
        )
        check_device("gather indices", indices, self.device)
        wanted = fits("gather indices", indices, ("B", "H", "N"), (b, h, n)).expand(b, h, n).long()
        if wanted.numel() and not (int(wanted.min()) >= -1 and int(wanted.max()) < m):
            raise ValueError(
                f"gather: indices from {int(wanted.min())} to {int(wanted.max())} do not fit M={m} keys "
                "(axis M). -1 stands for no key."
            )
        weights = self._weights_at(torch.arange(n, device=self.device), wanted.clamp(min=0))
        return self._squeeze(weights.masked_fill(wanted < 0, 0))


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)

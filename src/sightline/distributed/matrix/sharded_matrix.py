"""The attention matrix of a sequence on several processes: each has some of its rows."""

from __future__ import annotations

from typing import get_args

import torch
from torch import Tensor

from sightline.backends.contract import Reduction
from sightline.backends.problem import compute_dtype
from sightline.common.check import choice, integer
from sightline.distributed.matrix.picture import Picture
from sightline.distributed.matrix.products import ShardedProducts
from sightline.distributed.matrix.readouts import ShardedReadouts
from sightline.matrix.indexing import ALL, as_slice


class ShardedMatrix(ShardedReadouts, ShardedProducts):
    """The exact attention weights [B,H,N,M] of a sequence on several processes: each holds some rows.

    What ``sightline.attention(..., return_matrix=True)`` gives inside of ``context_parallel``. What is said
    of queries is of the process's own, :attr:`positions`: ``lse``, ``entropy``, ``max``, ``topk``, ``A @ x``.
    What is said of keys is summed up over the queries of all processes, and each gets that of its own keys,
    :attr:`key_positions`: ``received``, ``A.T @ x``. Indices and key numbers are those of the whole:
    ``A[b, h, rows, cols]`` and ``pool`` give every process the same. All processes make each call together.

    Example:
        >>> import sightline, torch
        >>> from sightline import distributed
        >>> torch.distributed.init_process_group(
        ...     "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> q, k, v = torch.randn(3, 1, 2, 10, 4)
        >>> with distributed.context_parallel():
        ...     context, A = sightline.attention(q, k, v, return_matrix=True)
        >>> A, A.received().shape
        (ShardedMatrix(shape=[1, 2, 10, 10], dtype=torch.float32, device=cpu), torch.Size([1, 2, 10]))
        >>> torch.distributed.destroy_process_group()
    """

    def part(self, rows: slice = ALL, cols: slice = ALL) -> Tensor:
        """The weights of some rows and columns of the whole, [B,H,n,m], in every process."""
        b, h, n, m = self.sizes
        rows, cols = as_slice(rows, n, "N"), as_slice(cols, m, "M")
        self._begin("a part", rows, cols)
        asked, keys = range(n)[rows], range(m)[cols]
        found = self._of_own_rows(len(keys))
        for piece in self._pieces(_hull(asked), _hull(keys)):
            tile = piece.tile
            own, _ = _overlap(asked, tile.first, tile.first + tile.rows.stop - tile.rows.start)
            those, at = _overlap(keys, *tile.keys)
            if own and those:
                some = slice(own.start - tile.first, own.stop - tile.first, own.step)
                weights = piece.matrix.part(
                    some, slice(those[0] - tile.keys.first, those[-1] + 1 - tile.keys.first, those.step)
                )
                local = slice(tile.rows.start + some.start, tile.rows.start + some.stop, some.step)
                found[:, :, local, at : at + len(those)] = weights * piece.share[:, :, some, None].to(
                    weights.dtype
                )
        return self._joined_rows(found, asked)

    def _joined_rows(self, found: Tensor, asked: range) -> Tensor:
        """Some rows [B,H,n,·] in every process, of those that have them."""
        ring = self._ring
        b, h, _, width = found.shape
        overlaps = [
            [(one, *_overlap(asked, one.first, one.last)) for one in segments]
            for segments in ring.queries.segments
        ]
        sizes = [b * h * width * sum(len(some) for _, some, _ in own) for own in overlaps]
        mine = [
            found[:, :, some.start - one.first + one.local : some.stop - one.first + one.local : some.step]
            for one, some, _ in overlaps[ring.link.rank]
        ]
        packed = torch.cat([one.reshape(-1) for one in mine]) if mine else found.new_empty(0)
        whole = found.new_empty((b, h, len(asked), width))
        for own, came in zip(overlaps, self._from_all(packed, sizes, "rows of a matrix"), strict=True):
            start = 0
            for _, some, at in own:
                size = b * h * width * len(some)
                whole[:, :, at : at + len(some)] = came[start : start + size].view(b, h, len(some), width)
                start += size
        return whole

    def pool(
        self,
        height: int,
        width: int,
        rows: slice | int | None = None,
        cols: slice | int | None = None,
        reduce: str = "mean",
    ) -> Tensor:
        """An exact picture of any region of the whole, [B,H,height,width], in every process."""
        b, h, n, m = self.sizes
        height, width = integer("pool height", height, 1), integer("pool width", width, 1)
        choice("pool reduce", reduce, get_args(Reduction))
        row_slice, col_slice = (
            as_slice(ALL if rows is None else rows, n, "N"),
            as_slice(ALL if cols is None else cols, m, "M"),
        )
        if row_slice.step != 1 or col_slice.step != 1:
            raise ValueError("pool: rows and cols are slices of step 1.")
        self._begin("a picture", height, width, row_slice, col_slice, reduce)
        picture = Picture((b, h, height, width), row_slice, col_slice, reduce, self.device)
        for piece in self._pieces(row_slice, col_slice):
            picture.add(piece)
        mine = picture.fields
        others = self._from_all(mine, [mine.numel()] * self._ring.link.count, "a picture of a matrix")
        shown = picture.shown(torch.stack([one.view(mine.shape) for one in others]))
        return self._squeeze(shown.to(compute_dtype(self._ring.own)))


def _hull(some: range) -> slice:
    return slice(some[0], some[-1] + 1, 1) if some else slice(0, 0, 1)


def _overlap(some: range, first: int, last: int) -> tuple[range, int]:
    """Those of some numbers that lie from first to last, and at which place among them they begin."""
    if not some:
        return range(0), 0
    start = max(0, -(-(first - some.start) // some.step))
    stop = max(start, min(len(some), -(-(last - some.start) // some.step)))
    return some[start:stop], start

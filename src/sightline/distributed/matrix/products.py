"""A matrix on several processes as a linear operator, both ways: each process has its part of either side."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sightline.backends.problem import compute_dtype
from sightline.distributed.matrix.core import ShardedCore
from sightline.distributed.ring import Returning


class ShardedProducts(ShardedCore):
    """``A @ x`` and ``x @ A``."""

    def __matmul__(self, x: Any) -> Tensor:
        """A @ x of the own rows, [B,H,n,F], for the own part of x: [m,F], [H,m,F], [B,H,m,F] or [m]."""
        b, h, _, _ = self.sizes
        own = self._own_key.shape[2]
        columns = self._columns(x, own, "m").to(compute_dtype(self._ring.own))
        width = columns.shape[3]
        self._begin("a product", width, str(columns.dtype))
        groups = self._own_key.shape[1]
        # They travel beside the keys of their group, those of its query heads one after another.
        side = columns.expand(b, h, own, width).unflatten(1, (groups, -1)).transpose(2, 3).flatten(3)
        found = self._of_own_rows(width)
        for _, _, pieces in self._hops(other=side):
            for piece in pieces:
                assert piece.other is not None
                came = piece.other.unflatten(3, (-1, width)).transpose(2, 3).flatten(1, 2)
                found[:, :, piece.tile.rows] += piece.of_rows(piece.matrix @ came)
        return self._as_other_side(found, x)

    def transposed_product(self, x: Tensor) -> Tensor:
        """Aᵀ @ x of the own keys, [B,H,m,F], for the own rows of x: [n,F], [H,n,F], [B,H,n,F] or [n]."""
        own = self._ring.own
        columns = self._columns(x, own.shape[2], "n").to(compute_dtype(own))
        width = columns.shape[3]
        self._begin("a transposed product", width, str(columns.dtype))
        home = columns.new_zeros((*own.shape[:2], self._own_key.shape[2], width))
        returning = Returning(self._ring, [home])
        for hop, count, pieces in self._hops():
            found = home.new_zeros((*home.shape[:2], count, width))
            for piece in pieces:
                rows = piece.of_rows(columns[:, :, piece.tile.rows].expand(*own.shape[:2], -1, -1))
                found[:, :, piece.tile.at] += piece.matrix.transposed_product(rows)
            returning.send(hop, [found], "a product")
        returning.finish()
        return self._as_other_side(home, x)

"""Readouts of a matrix on several processes: those of rows stay, those of keys go home.

With a tile's weights times ``a`` for each row: its entropy is ``a·(H - ln a)``, its largest weights and its
sums are those of the tile times ``a``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.backends import Values
from sightline.backends.contract import Answer
from sightline.backends.problem import compute_dtype
from sightline.distributed.matrix.core import Piece, ShardedCore
from sightline.distributed.ring import Returning
from sightline.matrix.readouts import Readouts
from sightline.positions.align import Align, check_align, offsets


class ShardedReadouts(ShardedCore):
    """What is read off the rows and columns."""

    def readouts(
        self,
        *names: str,
        topk: int | None = None,
        segments: Tensor | None = None,
        align: Align = "bottom-right",
    ) -> Readouts:
        """Several readouts in one pass, of the own rows or keys; see :meth:`AttentionMatrix.readouts`.

        Segments are of all keys of the whole; indices are keys of the whole.
        """
        align = check_align("distance", align)
        wanted = self._wanted(names, topk, segments)
        self._begin("readouts", wanted, topk, segments, align)
        found = _Found(self, wanted, topk or 0, segments, align)
        home = self._own_key.new_zeros(
            (*self.sizes[:2], self._own_key.shape[2], 1), dtype=compute_dtype(self._ring.own)
        )
        returning = Returning(self._ring, [home])
        of_rows = [name for name in wanted if name != "received"]
        for hop, count, pieces in self._hops():
            received = home.new_zeros((*home.shape[:2], count, 1))
            for piece in pieces:
                if of_rows:
                    found.take(piece, of_rows)
                if "received" in wanted:
                    column = piece.share[..., None].to(home.dtype)
                    received[:, :, piece.tile.at] += piece.matrix.transposed_product(column)
            if "received" in wanted:
                returning.send(hop, [received], "what keys received")
        returning.finish()
        answers = found.answers() | {"received": home[..., 0]}
        return Readouts(**{name: self._squeezed(answers[name]) for name in wanted})


class _Found:
    """What has been read of the own rows so far."""

    def __init__(
        self, matrix: ShardedCore, wanted: list[str], k: int, segments: Tensor | None, align: Align
    ) -> None:
        b, _, n, m = matrix.sizes
        self._k, self._segments = k, segments
        self._offset = offsets(align, b, n, m, matrix.device)
        self._dtype = compute_dtype(matrix._ring.own)
        sizes = {"mass": int(segments.max()) + 1 if segments is not None and segments.numel() else 0}
        self._sums = {
            name: matrix._of_own_rows(*([sizes[name]] if name in sizes else []), dtype=torch.float64)
            for name in ("entropy", "distance", "mass")
            if name in wanted
        }
        self._largest = {
            name: Values(
                matrix._of_own_rows(count, fill=-1.0),
                matrix._of_own_rows(count, fill=-1, dtype=torch.int64),
            )
            for name, count in (("max", 1), ("topk", k))
            if name in wanted
        }
        self._score = matrix._of_own_rows(fill=-torch.inf)

    def take(self, piece: Piece, names: list[str]) -> None:
        """Adds what a tile says."""
        tile, m = piece.tile, piece.matrix.sizes[3]
        segments = None if self._segments is None else self._segments[..., slice(*tile.keys)]
        read = piece.matrix.readouts(
            *names,
            topk=min(self._k, m) or None,
            segments=segments,
            align=self._offset + tile.first - tile.keys.first,
        )
        for name, total in self._sums.items():
            found = piece.of_rows(getattr(read, name).double())
            if name == "entropy":
                found = found - torch.xlogy(piece.share, piece.share)
            rows = total[:, :, tile.rows]
            rows = rows[..., : found.shape[3]] if found.dim() == 4 else rows  # segments that keys here have
            rows += found
        for kind, largest in self._largest.items():
            values, indices = getattr(read, kind)
            if kind == "max":
                values, indices = values[..., None], indices[..., None]
            values = piece.of_rows(values).masked_fill(indices < 0, -1.0)
            indices = torch.where(indices < 0, indices, indices + tile.keys.first)
            _keep_largest(largest, tile.rows, values, indices)
        if "max_score" in names:
            rows = self._score[:, :, tile.rows]
            rows.copy_(torch.maximum(rows, read.max_score))

    def answers(self) -> dict[str, Answer]:
        """All of them, by name."""
        found: dict[str, Answer] = {name: total.to(self._dtype) for name, total in self._sums.items()}
        for name, (values, indices) in self._largest.items():
            values = values.masked_fill(indices < 0, 0)
            found[name] = (
                Values(values[..., 0], indices[..., 0]) if name == "max" else Values(values, indices)
            )
        return found | {"max_score": self._score}


def _keep_largest(largest: Values, rows: slice, values: Tensor, indices: Tensor) -> None:
    """Keeps the largest of both; of equal ones those of the first keys."""
    k = largest.values.shape[3]
    values = torch.cat([largest.values[:, :, rows], values], -1)
    indices = torch.cat([largest.indices[:, :, rows], indices], -1)
    by_key = indices.masked_fill(indices < 0, torch.iinfo(torch.int64).max).argsort(dim=-1, stable=True)
    values, indices = values.gather(-1, by_key), indices.gather(-1, by_key)
    order = values.argsort(dim=-1, descending=True, stable=True)[..., :k]
    largest.values[:, :, rows] = values.gather(-1, order)
    largest.indices[:, :, rows] = indices.gather(-1, order)

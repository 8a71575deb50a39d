"""Tiles and readouts with their cache and their computations: what the routes ask."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any

from torch import Tensor

from sightline.view.pyramid import Region, Tile, coarse_level, region_of
from sightline.view.server.asked import Head
from sightline.view.server.blocks import blocks
from sightline.view.server.cache import Cache
from sightline.view.server.catalogue import Open
from sightline.view.server.cells import Cells
from sightline.view.server.jobs import Job, Jobs, Urgency
from sightline.view.server.overview import Overview

#: Weights of a tile that are computed at once; a larger tile shows sampled rows first.
AT_ONCE = 1 << 21

#: Bytes that the cache holds by default.
CACHE = 128 << 20


@dataclass(frozen=True)
class Picture:
    """Values [h,w] of a tile as float32, NaN where nothing is visible; ``sampled`` if not yet exact."""

    data: bytes
    shape: tuple[int, int]
    sampled: bool


class Service:
    """Everything that is computed for the page."""

    def __init__(self, traces: Sequence[Open], cache: int = CACHE, workers: int = 2) -> None:
        self.traces = {trace.id: trace for trace in traces}
        self.cache = Cache(cache)
        self.jobs = Jobs(workers)

    def tile(self, head: Head, tile: Tile, reduce: str, quick: bool) -> Picture | Job:
        """A tile that is known, or a computation that :meth:`finished` makes it of.

        Args:
            quick: take a sampled one.

        Raises:
            ValueError: for a tile that there is not.
        """
        region = region_of(tile, *head.size)
        key = ("tile", head.key, tile, reduce)
        known: Picture | None = self.cache.get(key)
        if known is not None:
            return known
        if region.cell > 1 and region.cell >= 1 << coarse_level(*head.size):
            return self._coarse_tile(head, region, reduce, quick)
        at_once = region.area * _heads(head) <= AT_ONCE

        def compute(cancel: Event) -> Picture:
            made = _picture(*self._values(head, region, reduce, quick and not at_once, cancel))
            if not made.sampled:
                self.cache.put(key, made, len(made.data))
            return made

        urgency = Urgency.QUICK if quick or at_once else Urgency.EXACT
        return self.jobs.join((key, quick), urgency, compute)

    def _coarse_tile(self, head: Head, region: Region, reduce: str, quick: bool) -> Picture | Job:
        """All coarse tiles of a head come from one pass, and share the computation."""
        overview = self.overview(head)
        if overview.exact:
            return _picture(*overview.picture(region, reduce))

        def compute(cancel: Event) -> Overview:
            (overview.sample if quick else overview.refine)(cancel)
            return overview

        return self.jobs.join(
            ("overview", head.key, quick), Urgency.QUICK if quick else Urgency.WHOLE, compute
        )

    def finished(self, result: Any, head: Head, tile: Tile, reduce: str) -> Picture:
        """The picture from what the computation of a tile gave."""
        if isinstance(result, Overview):
            return _picture(*result.picture(region_of(tile, *head.size), reduce))
        assert isinstance(result, Picture)
        return result

    def _values(
        self, head: Head, region: Region, reduce: str, sample: bool, cancel: Event
    ) -> tuple[Tensor, bool]:
        cells = Cells(region)
        step, start = 1, region.top
        if sample:
            # As many rows as are computed at once, and of each row of cells the same ones.
            wide = (region.right - region.left) * _heads(head)
            per_cell = max(1, AT_ONCE // max(1, wide * region.shape[0]))
            step = max(1, region.cell // per_cell)
            start = min(region.bottom - 1, region.top + step // 2)
        rows, cols = slice(start, region.bottom, step), slice(region.left, region.right)
        for block in blocks(head.matrix, head.head, rows, cols, cancel):
            cells.take(block, share=float(step))
        return cells.picture(reduce), step > 1

    def overview(self, head: Head) -> Overview:
        """The coarse levels of a head, as far as they are computed."""
        made: Overview = self.cache.get_or_make(
            ("overview", head.key), lambda: Overview(head.matrix, head.head)
        )
        return made

    def read(self, key: Hashable, urgency: Urgency, compute: Callable[[Event], Any]) -> Job:
        """A readout: computed once for all who ask at the same time."""
        return self.jobs.join(("read", key), urgency, compute)


def _heads(head: Head) -> int:
    """How many heads a weight of this picture is made from."""
    return int(head.call.matrix.shape[1]) if isinstance(head.head, str) else 1


def _picture(values: Tensor, sampled: bool) -> Picture:
    h, w = values.shape
    return Picture(values.contiguous().numpy().astype("<f4", copy=False).tobytes(), (h, w), sampled)

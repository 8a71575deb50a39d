"""Tiles and readouts with their cache and their computations: what the routes ask."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sightline.view.pyramid import Region, Tile, coarse_level, region_of
from sightline.view.server.asked import Head
from sightline.view.server.blocks import AT_ONCE, over_heads, sampling_step, work
from sightline.view.server.cache import Cache
from sightline.view.server.cancel import Cancel
from sightline.view.server.catalogue import Open
from sightline.view.server.cells import Cells
from sightline.view.server.jobs import Job, Jobs, Urgency
from sightline.view.server.overview import Overview

#: Weights of the sampled rows of a tile.
QUICK = 1 << 25

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
        matrix, rows, width = head.matrix, slice(region.top, region.bottom), region.right - region.left
        at_once = work(matrix, rows, width) <= AT_ONCE

        def compute(cancel: Cancel) -> Picture:
            step = 1 if at_once or not quick else sampling_step(matrix, rows, width, QUICK, 2)
            cells = Cells(matrix, region, step)
            for piece in cells.todo():
                cancel.check()
                cells.take(piece)
            made = _picture(over_heads(cells.picture(reduce), head.head), step > 1)
            if not made.sampled:
                self.cache.put(key, made, len(made.data))
            return made

        urgency = Urgency.QUICK if quick or at_once else Urgency.EXACT
        return self.jobs.join((key, quick and not at_once), urgency, compute)

    def _coarse_tile(self, head: Head, region: Region, reduce: str, quick: bool) -> Picture | Job:
        """All coarse tiles of a head come from one pass, and share the computation."""
        overview, urgency = self.overview(head), self.urgency_of_pass(head)
        if overview.exact:
            return _picture(*overview.picture(region, reduce))
        sampling = quick and urgency is Urgency.WHOLE

        def compute(cancel: Cancel) -> Overview:
            (overview.sample if sampling else overview.refine)(cancel)
            return overview

        key = ("overview", head.key, sampling)
        return self.jobs.join(key, Urgency.QUICK if sampling else urgency, compute)

    def urgency_of_pass(self, head: Head, width: int | None = None) -> Urgency:
        """Whether a pass over the whole matrix, or over so many of its keys, is quick."""
        cost = work(head.matrix, slice(None), head.size[1] if width is None else width)
        return Urgency.QUICK if cost <= AT_ONCE else Urgency.WHOLE

    def finished(self, result: Any, head: Head, tile: Tile, reduce: str) -> Picture:
        """The picture from what the computation of a tile gave."""
        if isinstance(result, Overview):
            return _picture(*result.picture(region_of(tile, *head.size), reduce))
        assert isinstance(result, Picture)
        return result

    def overview(self, head: Head) -> Overview:
        """The coarse levels of a head, as far as they are computed."""
        made: Overview = self.cache.get_or_make(
            ("overview", head.key), lambda: Overview(head.matrix, head.head)
        )
        return made

    def read(self, key: Hashable, urgency: Urgency, compute: Callable[[Cancel], Any]) -> Job:
        """A readout: computed once for all who ask at the same time."""
        return self.jobs.join(("read", key), urgency, compute)


def _picture(values: Tensor, sampled: bool) -> Picture:
    h, w = values.shape
    return Picture(values.contiguous().numpy().astype("<f4", copy=False).tobytes(), (h, w), sampled)

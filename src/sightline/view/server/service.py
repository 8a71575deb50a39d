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
from sightline.view.server.catalogue import OpenTrace
from sightline.view.server.cells import RegionCells
from sightline.view.server.jobs import Computation, Computations, Urgency
from sightline.view.server.overview import Overview
from sightline.view.server.reader import Reader
from sightline.view.server.uploads import Uploads

#: Weights of a tile that are computed at once, and of the sampled rows of a larger one: a view shows a dozen
#: tiles, which must all arrive within a moment.
TILE_AT_ONCE, QUICK = 1 << 23, 1 << 22

#: Bytes that the cache holds by default.
CACHE = 128 << 20


#: The most traces that are kept of those that were typed or uploaded.
ADDED = 32

#: The most changes of one trace that are kept: the page shows the last.
CHANGED = 3


@dataclass(frozen=True)
class TileValues:
    """Values [h,w] of a tile as float32, NaN where nothing is visible; ``sampled`` if not yet exact."""

    data: bytes
    shape: tuple[int, int]
    sampled: bool


class Service:
    """Everything that is computed for the page."""

    def __init__(self, traces: Sequence[OpenTrace], cache: int = CACHE, workers: int = 2) -> None:
        self.traces = {trace.id: trace for trace in traces}
        self.cache = Cache(cache)
        self.jobs = Computations(workers)
        self._added: list[str] = []
        #: What reads texts for the page, if there is a model.
        self.reader: Reader | None = None
        #: What takes traces from the page, if it may send any.
        self.uploads: Uploads | None = None

    def add(self, trace: OpenTrace) -> None:
        """Adds a trace at the end of the list; past ``ADDED``, or ``CHANGED`` of one, the oldest goes."""
        self._added.append(trace.id)
        gone = self._added[:-ADDED]
        del self._added[:-ADDED]
        if trace.asked is not None and trace.asked.of is not None:
            changes = [n for n, each in self.traces.items() if each.asked and each.asked.of == trace.asked.of]
            gone += changes[: -CHANGED + 1]
            self._added = [name for name in self._added if name not in gone]
        # A new dictionary: another thread may be iterating over the old one.
        self.traces = {name: each for name, each in self.traces.items() if name not in gone} | {
            trace.id: trace
        }

    def stop(self) -> None:
        """Stops everything that runs, and removes uploads."""
        self.jobs.stop()
        if self.reader is not None:
            self.reader.stop()
        if self.uploads is not None:
            self.uploads.stop()

    def tile(self, head: Head, tile: Tile, reduce: str, quick: bool) -> TileValues | Computation:
        """A cached tile, or the computation from which :meth:`finished` makes it.

        Args:
            quick: a sampled tile will do.

        Raises:
            ValueError: there is no such tile.
        """
        region = region_of(tile, *head.size)
        key = ("tile", head.key, tile, reduce)
        known: TileValues | None = self.cache.get(key)
        if known is not None:
            return known
        if region.cell > 1 and region.cell >= 1 << coarse_level(*head.size):
            return self._coarse_tile(head, region, reduce, quick)
        matrix, rows, width = head.matrix, slice(region.top, region.bottom), region.right - region.left
        at_once = work(matrix, rows, width) <= TILE_AT_ONCE

        def compute(cancel: Cancel) -> TileValues:
            step = 1 if at_once or not quick else sampling_step(matrix, rows, width, QUICK, 2)
            cells = RegionCells(matrix, region, step)
            for piece in cells.todo():
                cancel.check()
                cells.take(piece)
            made = _picture(over_heads(cells.picture(reduce), head.head), step > 1)
            if not made.sampled:
                self.cache.put(key, made, len(made.data))
            return made

        urgency = Urgency.QUICK if quick or at_once else Urgency.EXACT
        return self.jobs.join((key, quick and not at_once), urgency, compute)

    def _coarse_tile(self, head: Head, region: Region, reduce: str, quick: bool) -> TileValues | Computation:
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

    def finished(self, result: Any, head: Head, tile: Tile, reduce: str) -> TileValues:
        """The picture from what the computation of a tile gave."""
        if isinstance(result, Overview):
            return _picture(*result.picture(region_of(tile, *head.size), reduce))
        assert isinstance(result, TileValues)
        return result

    def overview(self, head: Head) -> Overview:
        """The coarse levels of a head, as far as they are computed."""
        made: Overview = self.cache.get_or_make(
            ("overview", head.key), lambda: Overview(head.matrix, head.head)
        )
        return made

    def read(self, key: Hashable, urgency: Urgency, compute: Callable[[Cancel], Any]) -> Computation:
        """A readout: computed once for all who ask at the same time."""
        return self.jobs.join(("read", key), urgency, compute)


def _picture(values: Tensor, sampled: bool) -> TileValues:
    h, w = values.shape
    return TileValues(values.contiguous().numpy().astype("<f4", copy=False).tobytes(), (h, w), sampled)

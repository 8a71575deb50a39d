"""From what was counted to the rows of a profile's table."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import astuple

from sightline.profiling.row import ProfileRow
from sightline.profiling.stacks import stacks_of
from sightline.profiling.state import State
from sightline.profiling.statistics import STATISTICS


def counted_rows(state: State) -> list[ProfileRow]:
    """A row for each measure of each head, in the order of layers, measures and heads."""
    summed = state.tally.summed()
    order = list(STATISTICS)
    rows = []
    for call, (stack, layer) in stacks_of(sorted({key.call for key in summed})).items():
        keys = sorted((key for key in summed if key.call == call), key=lambda key: order.index(key.measure))
        for key in keys:
            for head, figures in enumerate(summed[key]):
                place = (stack, layer, call.layer, call.turn, head, key.measure)
                label, share = _label(state.labels.get(call), head)
                rows.append(ProfileRow(*(*place, *astuple(figures), label, share)))
    return rows


def _label(heads: list[Counter[str]] | None, head: int) -> tuple[str, float]:
    """A head's most frequent label (among equals the first by name) and its share."""
    if heads is None or not heads[head]:
        return "", math.nan
    label, count = min(heads[head].items(), key=lambda item: (-item[1], item[0]))
    return label, count / heads[head].total()

"""What was recorded of a model's stream, as the lens of a reading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sightline.attribution.lens.asked import word_stream
from sightline.reading.lens import WordLens, numbered
from sightline.reading.reading import Section


def lens_of(recorder: Any, sections: Sequence[Section], batch: int) -> WordLens | None:
    """The lens of a trace's recording; ``None`` where there is none, or it belongs to no section."""
    if recorder is None:
        return None
    try:
        stream = word_stream(recorder)
    except ValueError:  # of a model that writes no words
        return None
    heads: dict[str, tuple[str, tuple[int, ...]]] = {}
    for section in sections:
        places = [stream.calls.get(section.facts_of(at).name) for at in range(len(section.layers))]
        if not section.facts and section.is_self:  # layers without names are all blocks, in order
            places = [(at, "head") for at in range(len(section.layers))]
        known = [(at, *place) for at, place in enumerate(places) if place is not None]
        if known and len(section.queries) == stream.size[1]:
            blocks = 1 + max(stage.layer or 0 for stage in stream.stages)
            layers = [-1] * blocks
            for at, block, _ in known:
                layers[block] = at
            heads[known[0][2]] = (section.name, tuple(layers))
    if not heads:
        return None
    return WordLens(stream, batch, tuple(name for name, _ in heads.values()), heads, numbered, recorder.eps)

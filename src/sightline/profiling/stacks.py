"""Which stack of layers each attention call of a model belongs to, and its layer there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sightline.profiling.tally import CallKey


def stacks_of(calls: Sequence[CallKey]) -> dict[CallKey, tuple[str, int]]:
    """Each call's stack and layer: calls whose names differ in numbers alone belong together."""
    patterns: dict[tuple[str, str], list[CallKey]] = {}
    for call in calls:
        patterns.setdefault((call.kind, re.sub(r"\d+", "*", call.layer)), []).append(call)
    stacks: dict[CallKey, tuple[str, int]] = {}
    for (kind, pattern), members in patterns.items():
        alone = sum(other == kind for other, _ in patterns) == 1
        name = kind if alone else f"{_distinction(pattern, kind, list(patterns))} {kind}"
        stacks |= {call: (name, layer) for layer, call in enumerate(members)}
    return stacks


def _distinction(pattern: str, kind: str, patterns: list[tuple[str, str]]) -> str:
    """ "encoder" or "decoder" where that distinguishes a pattern from the others of its kind, else itself."""
    own = _side(pattern)
    sides = [_side(other) for other_kind, other in patterns if other_kind == kind]
    return own if own and sides.count(own) == 1 else pattern


def _side(name: str) -> str | None:
    return next((part for part in name.split(".") if part in ("encoder", "decoder")), None)

"""Changes as plain data, as the page writes them: read, checked, and made.

Each is an object: ``kind`` ("block", "scale", "set" or "ablate"), ``section`` (a name or a list of names),
``layer`` (its place among the section's layers), ``head``, ``queries`` and ``keys`` (lists of positions), and
``by``, ``to`` or ``how``, as :func:`sightline.intervene` has them; null is all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sightline.common.check import shown
from sightline.interventions.changes import HOWS
from sightline.interventions.intervention import Intervention

#: The most changes in one list.
MOST = 64

_FIELDS = {
    "block": {"queries", "keys"},
    "scale": {"queries", "keys", "by"},
    "set": {"queries", "keys", "to"},
    "ablate": {"how"},
}
_ALWAYS = {"kind", "section", "layer", "head"}


class Room(NamedTuple):
    """How much there is in a section: layers, heads of each, queries and keys."""

    layers: int
    heads: int
    queries: int
    keys: int


class WrittenChange(NamedTuple):
    """One change that was read; ``None`` is all of them."""

    kind: str
    sections: tuple[str, ...]
    layer: int | None
    head: int | None
    queries: list[int] | None
    keys: list[int] | None
    number: float
    how: str


def read_changes(written: Any, rooms: Mapping[str, Room]) -> list[WrittenChange]:
    """The changes of a list.

    Raises:
        ValueError: for anything that is not such a list, or means what is not there.
    """
    if not isinstance(written, list) or not 0 < len(written) <= MOST:
        raise ValueError(f"changes: must be a list of 1 to {MOST} changes, got {shown(written)}.")
    return [_read(one, f"changes[{at}]", rooms) for at, one in enumerate(written)]


def _read(one: Any, name: str, rooms: Mapping[str, Room]) -> WrittenChange:
    if not isinstance(one, dict) or one.get("kind") not in _FIELDS:
        raise ValueError(f"{name}: must be an object whose kind is one of {', '.join(_FIELDS)}.")
    kind = one["kind"]
    unknown = sorted(set(one) - _ALWAYS - _FIELDS[kind])
    if unknown:
        raise ValueError(f"{name}.{unknown[0]}: {kind} knows no such field.")
    sections = _sections(one.get("section"), f"{name}.section", rooms)
    there = [rooms[section] for section in sections]
    return WrittenChange(
        kind,
        sections,
        _place(one.get("layer"), f"{name}.layer", min(room.layers for room in there)),
        _place(one.get("head"), f"{name}.head", min(room.heads for room in there)),
        _places(one.get("queries"), f"{name}.queries", min(room.queries for room in there)),
        _places(one.get("keys"), f"{name}.keys", min(room.keys for room in there)),
        _number(one, kind, name),
        _how(one.get("how", "zero"), f"{name}.how"),
    )


def _sections(given: Any, name: str, rooms: Mapping[str, Room]) -> tuple[str, ...]:
    chosen = list(rooms) if given is None else given if isinstance(given, list) else [given]
    wrong = next((one for one in chosen if not isinstance(one, str) or one not in rooms), None)
    if wrong is not None or not chosen:
        raise ValueError(f"{name}: there is no {wrong!r}; there are {', '.join(rooms)}.")
    return tuple(dict.fromkeys(chosen))


def _place(given: Any, name: str, count: int) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given < count:
        raise ValueError(f"{name}: must be null or an integer from 0 to {count - 1}, got {shown(given)}.")
    return given


def _places(given: Any, name: str, count: int) -> list[int] | None:
    if given is None:
        return None
    sound = isinstance(given, list) and given and all(isinstance(one, int) for one in given)
    if not sound or any(isinstance(one, bool) or not 0 <= one < count for one in given):
        raise ValueError(
            f"{name}: must be null or a list of integers from 0 to {count - 1}, got {shown(given)}."
        )
    return sorted(set(given))


def _number(one: dict[str, Any], kind: str, name: str) -> float:
    field = {"scale": "by", "set": "to"}.get(kind)
    if field is None:
        return 1.0
    value, most = one.get(field), 1e6 if field == "by" else 1
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise ValueError(f"{name}.{field}: must be a number from 0 to {most:g}, got {shown(value)}.")
    return float(value)


def _how(given: Any, name: str) -> str:
    if given not in HOWS:
        raise ValueError(f"{name}: must be one of {', '.join(HOWS)}, got {shown(given)}.")
    return str(given)


def make_changes(
    change: Intervention, changes: Sequence[WrittenChange], layers: Mapping[str, Sequence[int]]
) -> None:
    """Puts changes into an intervention.

    Args:
        layers: for each section, its layers in order, as ``intervene`` counts layers.
    """
    for one in changes:
        for section in one.sections:
            here = list(layers[section])
            where = here if one.layer is None else [here[one.layer]]
            if one.kind == "block":
                change.block(where, one.head, one.queries, one.keys)
            elif one.kind == "scale":
                change.scale(where, one.head, one.keys, one.number, queries=one.queries)
            elif one.kind == "set":
                change.set(where, one.head, one.queries, one.keys, one.number)
            else:
                change.ablate(where, one.head, one.how)

"""One new token against a long cache, with a streaming read of the cache as the floor."""

from __future__ import annotations

from collections.abc import Iterator

from sightline.bench.case import Case
from sightline.bench.sections.section import (
    BEST_PEER,
    CASE,
    DTYPE,
    MS,
    SPREAD,
    X_BEST_PEER,
    BenchSection,
    Column,
)  # fmt: skip
from sightline.bench.session import Row, Session

_COLD = 96 << 20  # bytes of key/value caches that take turns: more than a processor's last-level cache holds


def rows(session: Session) -> Iterator[Row]:
    """32 query heads on 8 key/value heads."""
    heads, groups, keys, width = session.pick(
        full=(32, 8, 8192, 128), quick=(32, 8, 8192, 128), tiny=(4, 2, 16, 8)
    )
    for dtype in ("float32", "bfloat16"):
        case = Case(1, width, dtype, heads=heads, kv_heads=groups, keys=keys)
        copies = min(4, max(2, -(-_COLD // case.cache_bytes)))
        case = Case(1, width, dtype, heads=heads, kv_heads=groups, keys=keys, copies=copies)
        row = session.compare(case, others={"floor": ("floor", case)})
        floor = row["contenders"]["floor"]
        row["floor_ms"] = floor.get("ms")
        row["x_floor"] = 1 / floor["ratio"] if floor.get("ratio") else None
        row["gb_per_second"] = case.cache_bytes / floor["ms"] / 1e6 if floor.get("ms") else None
        yield row


SECTION = BenchSection(
    name="decode",
    title="Decode",
    note=(
        "One query per head. The floor reads every key and value once (a sum over the cache); several caches "
        "take turns, so that they come from memory. Eager, ort-mha and openvino get a group's query heads as "
        "rows of one head: the same numbers, and each key is read once."
    ),
    columns=(
        CASE, DTYPE, MS, SPREAD, Column("floor_ms", "floor ms", "ms"), Column("x_floor", "× floor", "ratio"),
        Column("gb_per_second", "floor GB/s", "number"), BEST_PEER, X_BEST_PEER,
    ),
    rows=rows,
    peers=True,
)  # fmt: skip

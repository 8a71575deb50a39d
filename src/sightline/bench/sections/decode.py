"""One new token against a long cache, with a streaming read of the cache as the floor."""

from __future__ import annotations

from collections.abc import Iterator

from sightline.bench.case import Case
from sightline.bench.machine import last_cache_bytes
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

# Bytes of key/value caches that take turns, so that they come from memory: at least, and at most where a
# processor says that it caches more.
_COLD, _COLDEST = 96 << 20, 768 << 20


def rows(session: Session) -> Iterator[Row]:
    """32 query heads on 8 key/value heads."""
    heads, groups, keys, width = session.pick(
        full=(32, 8, 8192, 128), quick=(32, 8, 8192, 128), tiny=(4, 2, 16, 8)
    )
    for dtype in ("float32", "bfloat16"):
        case = Case(1, width, dtype, heads=heads, kv_heads=groups, keys=keys)
        cold = min(_COLDEST, max(_COLD, last_cache_bytes() * 3 // 2))
        copies = min(64, max(2, -(-cold // case.cache_bytes)))
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
        "One query per head. The floor reads every key and value once (a sum over the same caches); several "
        "take turns, more than a processor caches, so that they come from memory. Eager, ort-mha and "
        "openvino get a group's query heads as rows of one head: the same numbers, and each key is read once."
    ),
    columns=(
        CASE, DTYPE, MS, SPREAD, Column("floor_ms", "floor ms", "ms"), Column("x_floor", "× floor", "ratio"),
        Column("gb_per_second", "floor GB/s", "number"), BEST_PEER, X_BEST_PEER,
    ),
    rows=rows,
    peers=True,
)  # fmt: skip

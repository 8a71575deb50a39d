"""The backward pass alone against every peer that has one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from sightline.bench.case import Case
from sightline.bench.pattern import CAUSAL, FULL
from sightline.bench.sections.section import (
    BEST_PEER,
    CASE,
    DTYPE,
    MS,
    OF_DOT_PEAK,
    OF_FMA_PEAK,
    SPREAD,
    X_BEST_PEER,
    BenchSection,
)  # fmt: skip
from sightline.bench.session import Row, Session


def rows(session: Session) -> Iterator[Row]:
    """Gradients of query, key and value, full and causal."""
    lengths = session.pick(full=(512, 1024, 4096), quick=(1024,), tiny=(8,))
    width = session.pick(full=64, quick=64, tiny=4)
    for dtype, n, pattern in product(("float32", "bfloat16"), lengths, (FULL, CAUSAL)):
        heads = 2 if n < 64 or n > 2048 else 8
        yield session.compare(Case(n, width, dtype, heads=heads, pattern=pattern, direction="backward"))


SECTION = BenchSection(
    name="backward",
    title="Backward",
    note="The backward pass alone: 2.5 times the forward pass's useful work, recomputation not counted.",
    columns=(CASE, DTYPE, MS, SPREAD, OF_FMA_PEAK, OF_DOT_PEAK, BEST_PEER, X_BEST_PEER),
    rows=rows,
    peers=True,
)

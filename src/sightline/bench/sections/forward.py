"""The forward pass against every peer."""

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
    """Lengths and widths, full and causal; then a batch of short texts, and one tiny call."""
    lengths = session.pick(full=(512, 1024, 4096), quick=(1024,), tiny=(8,))
    widths = session.pick(full=(64, 128), quick=(64,), tiny=(4,))
    shorts = session.pick(
        full=[Case(128, batch=8, heads=12), Case(16, heads=12)],
        quick=[Case(16, heads=12)],
        tiny=[Case(4, 4, batch=2, heads=2)],
    )
    for dtype in ("float32", "bfloat16"):
        for width, n, pattern in product(widths, lengths, (FULL, CAUSAL)):
            heads = 2 if n < 64 or n > 2048 else 8
            yield session.compare(Case(n, width, dtype, heads=heads, pattern=pattern))
        for short in shorts:
            yield session.compare(Case(short.queries, short.width, dtype, short.batch, short.heads))


SECTION = BenchSection(
    name="forward",
    title="Forward",
    note="Inputs (B,H,N,D). A causal case counts the visible half of the work only.",
    columns=(CASE, DTYPE, MS, SPREAD, OF_FMA_PEAK, OF_DOT_PEAK, BEST_PEER, X_BEST_PEER),
    rows=rows,
    peers=True,
)

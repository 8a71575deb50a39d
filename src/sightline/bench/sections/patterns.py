"""Masks and biases: what skipping saves, and what reading them costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sightline.bench.case import Case
from sightline.bench.pattern import FULL, DocumentsPattern, LengthsPattern, WindowPattern
from sightline.bench.sections.section import (
    BEST_PEER,
    CASE,
    DTYPE,
    MS,
    OF_FMA_PEAK,
    SPREAD,
    X_BEST_PEER,
    BenchSection,
    Column,
)  # fmt: skip
from sightline.bench.session import OURS, Row, Session

_FORMS = ("best", "key mask", "dense")


def rows(session: Session) -> Iterator[Row]:
    """A window, half-padded batches in three forms, documents, a dense bias forward and backward."""
    for case, plain in _cases(session):
        for dtype in session.pick(full=("float32", "bfloat16"), quick=("float32",), tiny=("float32",)):
            ours, theirs = replace(case, dtype=dtype), replace(plain, dtype=dtype)
            row = session.compare(ours, others={"plain": (OURS, theirs)} if plain != case else None)
            row["pass"] = case.direction
            ratio = row["contenders"].get("plain", {}).get("ratio")
            row["x_plain"] = 1 / ratio if ratio else None
            yield row


def _cases(session: Session) -> Iterator[tuple[Case, Case]]:
    """Each case, and the same without padding or bias, with which it is compared (itself: with nothing)."""
    long, left, short, biased = session.pick(
        full=(16384, 512, 512, 2048), quick=(8192, 512, 512, 1024), tiny=(32, 4, 8, 8)
    )
    batch, heads, width = session.pick(full=(8, 12, 64), quick=(4, 12, 64), tiny=(2, 2, 4))
    window = Case(long, width, heads=session.pick(full=2, quick=1, tiny=1), pattern=WindowPattern(left))
    yield window, window
    # From nearly nothing to full length, half of it on average.
    kept = tuple(round(short * (b + 0.5) / batch) for b in range(batch))
    padded = Case(short, width, batch=batch, heads=heads, pattern=LengthsPattern(kept))
    for form in session.pick(full=_FORMS, quick=("best", "dense"), tiny=_FORMS):
        yield replace(padded, form=form), replace(padded, pattern=FULL)
    packed = Case(long // 4, width, heads=heads // 3 or 1, pattern=DocumentsPattern(max(1, long // 32)))
    yield packed, packed
    for direction, bias in (("forward", "fixed"), ("backward", "fixed"), ("backward", "learned")):
        case = Case(biased, width, heads=min(heads, 4), bias=bias, direction=direction)
        yield case, replace(case, bias="")


SECTION = BenchSection(
    name="patterns",
    title="Masks and biases",
    note=(
        "× plain: times as long as the same call without padding or bias. Peers get a pattern in their "
        "tightest form (a block mask, lengths, is_causal), otherwise as a bool mask; 'as key mask' is bool "
        "[B,1,1,M] and 'as dense' bool [B,1,N,M] for everyone. Padded: from nearly none to nearly "
        "all, half on average."
    ),
    columns=(
        CASE, DTYPE, Column("pass", "pass", "text"), MS, SPREAD, OF_FMA_PEAK,
        Column("x_plain", "× plain", "ratio"), BEST_PEER, X_BEST_PEER,
    ),
    rows=rows,
    peers=True,
)  # fmt: skip

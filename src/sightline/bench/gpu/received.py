"""What each key received, from queries and keys alone, beside other packages that sum columns up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sightline.bench.gpu.clock import sized, timed, within
from sightline.bench.gpu.column_sums import COLUMN_SUMS, ColumnSums
from sightline.bench.sections.section import BEST_PEER, CASE, DTYPE, MS, SPREAD, BenchSection
from sightline.bench.session import OURS, Row, Session, best_peer, figures
from sightline.bench.timing import take_turns
from sightline.masks import causal
from sightline.matrix import AttentionMatrix

#: As a share of the largest sum. They give halves, and ours was compared with float64 before.
_OFF = 0.02
_SECONDS = 60.0

#: Batch, heads, queries, keys, width of a head; and whether it is causal.
Shape = tuple[int, int, int, int, int, bool]


def rows(session: Session) -> Iterator[Row]:
    """Lengths and widths that these packages name, and longer ones."""
    shapes: list[Shape] = sized(
        session,
        full=[
            (8, 16, 2048, 2048, 64, False),
            (1, 16, 16384, 16384, 64, False),
            (1, 16, 16384, 16384, 128, False),
            (1, 16, 16384, 16384, 64, True),
            (1, 32, 128, 4096, 128, True),
        ],
        quick=[(1, 16, 16384, 16384, 64, False)],
        tiny=[(1, 2, 16, 16, 8, False), (1, 2, 8, 16, 8, True)],
    )
    dtype = sized(session, full="float16", quick="float16", tiny="float32")
    return within(_SECONDS, (_row(session, shape, dtype) for shape in shapes), session, "gpu-received")


def _row(session: Session, shape: Shape, dtype: str) -> Row:
    b, h, n, m, width, is_causal = shape
    case = f"({b},{h},{n},{width})" + (f" × {m}" if m != n else "") + f" {'causal' if is_causal else 'full'}"
    session.progress(f"received {case}")
    generator = torch.Generator().manual_seed(0)
    drawn = (torch.randn(b, h, length, width, generator=generator) for length in (n, m))
    query, key = (one.to(getattr(torch, dtype)).to(session.device) for one in drawn)
    mask = causal() if is_causal else None

    def ours() -> Tensor:
        return AttentionMatrix(query, key, mask=mask).received()  # a new one: its lse is not known

    calls: dict[str, Callable[[], object]] = {OURS: ours}
    entries: dict[str, dict[str, object]] = {OURS: {"status": "ok"}}
    sums = ours()
    for name, other in COLUMN_SUMS.items():
        entries[name], call = _admitted(session, name, other, (query, key, is_causal), sums)
        if call is not None:
            calls[name] = call
    turns = {name: timed(call, session.device) for name, call in calls.items()}
    samples = take_turns(turns, session.settings.budget, wall=session.device.type != "cpu")
    for name, one in samples.items():
        entries[name] |= figures(one, samples[OURS])
    row: Row = {"case": case, "dtype": dtype} | {key: entries[OURS][key] for key in ("ms", "spread")}
    return row | best_peer(entries, entries) | {"contenders": entries}


def _admitted(
    session: Session, name: str, other: ColumnSums, given: tuple[Tensor, Tensor, bool], sums: Tensor
) -> tuple[dict[str, object], Callable[[], object] | None]:
    """Whether one takes part, and how it is called: what is wrong is not timed."""
    missing = other.missing()
    if missing:
        session.note(name, missing)
        return {"status": "not installed"}, None
    entry: dict[str, object] = {"version": other.version()}
    try:
        call = other.ready(*given)
        found = call()
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        session.note(name, f"left out: {lines[0][:120]}")
        return entry | {"status": "failed"}, None
    wanted = other.of_sums(sums.double(), given[0].shape[2])
    off = _off(found.double(), wanted)
    if not off <= _OFF:
        b, h, n, width = given[0].shape
        session.note(name, f"wrong on ({b},{h},{n},{width}): it is off by {off:.2g} of the largest sum")
        return entry | {"status": "wrong"}, None
    return entry | {"status": "ok"}, call


def _off(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    return float((found - wanted).abs().max() / wanted.abs().max())


SECTION = BenchSection(
    name="gpu-received",
    title="On a device: what each key received",
    note=(
        "From queries and keys alone: the lse is part of it. How many times as long as Sightline each "
        "package takes; flash-colsum gives the mean over heads and queries."
    ),
    columns=(CASE, DTYPE, MS, SPREAD, BEST_PEER),
    rows=rows,
    contenders=tuple(COLUMN_SUMS),
)

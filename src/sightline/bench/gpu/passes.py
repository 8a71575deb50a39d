"""Forward and backward beside the vendors' kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from sightline.bench.gpu.clock import mark, sized, timed, within
from sightline.bench.gpu.vendors import Attend, vendors
from sightline.bench.sections.section import BEST_PEER, CASE, DTYPE, MS, PASS, SPREAD, BenchSection, Column
from sightline.bench.session import OURS, Row, Session, best_peer, figures
from sightline.bench.timing import take_turns
from sightline.call.attention import attention
from sightline.masks import causal

#: Of the speed of the best vendor's kernel that gives the same.
TARGET = 0.97
_OFF = 0.05

Shape = tuple[int, int, int, int]


#: Seconds after which what is left is left out: a whole run is to take ten minutes.
_SECONDS = 200.0


def rows(session: Session) -> Iterator[Row]:
    """Long and short, wide and narrow, full and causal, forward and backward."""
    return within(_SECONDS, _all(session), session, "gpu-passes")


def _all(session: Session) -> Iterator[Row]:
    shapes: list[Shape] = sized(
        session,
        full=[(1, 16, 16384, 128), (4, 16, 4096, 128), (8, 16, 2048, 64), (16, 16, 512, 64)],
        quick=[(1, 16, 16384, 128)],
        tiny=[(1, 2, 16, 8)],
    )
    dtypes = sized(session, full=("bfloat16",), quick=("bfloat16",), tiny=("float32",))
    for dtype in dtypes:
        for shape in shapes:
            for is_causal in (False, True):
                for direction in ("forward", "backward"):
                    yield _row(session, shape, dtype, is_causal, direction)


def drawn(shape: Shape, dtype: str, device: torch.device) -> list[Tensor]:
    """Query, key, value and a gradient."""
    generator = torch.Generator().manual_seed(0)
    four = (torch.randn(shape, generator=generator) for _ in range(4))
    return [one.to(getattr(torch, dtype)).to(device) for one in four]


def ready(
    session: Session, attend: Attend, given: list[Tensor], backward: bool
) -> tuple[Callable[[], object], Tensor]:
    """What is timed, and the context."""
    *inputs, grad = given
    if not backward:

        def forward() -> Tensor:
            with torch.no_grad():
                return attend(*inputs)

        return forward, forward()
    leaves = [one.detach().requires_grad_() for one in inputs]
    context = attend(*leaves)
    return partial(torch.autograd.grad, context, leaves, grad, retain_graph=True), context.detach()


def contenders(
    session: Session, given: list[Tensor], is_causal: bool, backward: bool
) -> tuple[dict[str, Callable[[], object]], dict[str, dict[str, object]]]:
    """Who can compute it and is right, and of each whether it takes part."""
    mask = causal() if is_causal else None
    asked: dict[str, Attend] = {OURS: lambda q, k, v: attention(q, k, v, mask=mask)}
    asked |= vendors(is_causal, session.device)
    calls: dict[str, Callable[[], object]] = {}
    entries: dict[str, dict[str, object]] = {}
    first: Tensor | None = None
    for name, attend in asked.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch tells at length why a kernel does not take it
                call, context = ready(session, attend, given, backward)
                call()
        except Exception as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            session.note(name, f"{'failed' if name == OURS else 'left out'}: {lines[0][:120]}")
            entries[name] = {"status": "left out"}
            continue
        first = context if first is None else first
        off = float((context.float() - first.float()).abs().max())
        entries[name] = {"status": "ok" if off <= _OFF else "wrong"}
        if off <= _OFF:
            calls[name] = call
        else:
            session.note(
                name, f"wrong: it is off by {off:.2g} from Sightline, which was compared with float64"
            )
    return calls, entries


def _row(session: Session, shape: Shape, dtype: str, is_causal: bool, direction: str) -> Row:
    case = f"({','.join(map(str, shape))}) {'causal' if is_causal else 'full'}"
    session.progress(f"{direction} {case}")
    row: Row = {"case": case, "dtype": dtype, "pass": direction}
    given = drawn(shape, dtype, session.device)
    calls, entries = contenders(session, given, is_causal, direction == "backward")
    turns = {name: timed(call, session.device) for name, call in calls.items()}
    samples = take_turns(turns, session.settings.budget, wall=session.device.type != "cpu")
    ours = samples.get(OURS)
    for name, one in samples.items():
        entries[name] |= figures(one, ours)
    row |= {key: entries[OURS].get(key) for key in ("ms", "spread")}
    row |= best_peer(entries, entries)
    row["of_best"] = row["x_best_peer"]
    return row | mark(session, row["of_best"], TARGET, least=True) | {"contenders": entries}


SECTION = BenchSection(
    name="gpu-passes",
    title="On a device: forward and backward",
    note="How many times as long as Sightline each vendor's kernel takes. The target is of the best's speed.",
    columns=(
        CASE, DTYPE, PASS, MS, SPREAD, BEST_PEER, Column("of_best", "of the best's speed", "ratio"),
        Column("target", "target", "text"), Column("mark", "mark", "text"),
    ),
    rows=rows,
    contenders=("sdpa flash", "cudnn", "sdpa efficient", "flex"),
)  # fmt: skip

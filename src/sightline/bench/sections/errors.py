"""Errors against float64, as multiples of PyTorch SDPA's own in the same dtype."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from sightline.bench.case import DTYPES, Case, inputs
from sightline.bench.judge import expected, rows_of
from sightline.bench.pattern import CAUSAL, FULL
from sightline.bench.peers import load_peer
from sightline.bench.sections.section import CASE, DTYPE, BenchSection, Column
from sightline.bench.session import Row, Session


def rows(session: Session) -> Iterator[Row]:
    """Context and gradients, plain and with logits 20 times as large."""
    torch.set_num_threads(session.settings.threads)
    lengths = session.pick(full=(1024, 4096), quick=(1024,), tiny=(16,))
    for dtype in DTYPES:
        for n in lengths:
            for pattern in (FULL, CAUSAL):
                for stretch in session.pick(full=(1.0, 20.0), quick=(1.0,), tiny=(1.0, 20.0)):
                    case = Case(n, dtype=dtype, heads=2, pattern=pattern, stretch=stretch)
                    yield from _compared(session, case)


def _compared(session: Session, case: Case) -> Iterator[Row]:
    for direction in ("forward", "backward"):
        one = replace(case, direction=direction)
        session.progress(f"{one}: errors, {direction}")
        ours, theirs = _errors("sightline", one), _errors("sdpa", one)
        names = ("context",) if direction == "forward" else ("d query", "d key", "d value")
        for name, mine, other in zip(names, ours, theirs, strict=True):
            yield {
                "case": str(case),
                "dtype": case.dtype,
                "stretch": case.stretch,
                "what": name,
                "largest": float(mine.abs().max()),
                "x_largest": float(mine.abs().max() / other.abs().max()),
                "x_rms": float(mine.norm() / other.norm()),
            }


def _errors(name: str, case: Case) -> list[Tensor]:
    run = load_peer(name).prepare(case, inputs(case), 1)
    outputs = [tensor.detach().double() for tensor in run.outputs(run.call())]
    if case.direction == "forward":
        outputs = [outputs[0][:, :, rows_of(case)]]
    return [output - right for output, right in zip(outputs, expected(case), strict=True)]


SECTION = BenchSection(
    name="errors",
    title="Errors against float64",
    note="Signed normal inputs; logits × 20 make sharp rows. Multiples of SDPA's error in the same dtype.",
    columns=(
        CASE, DTYPE, Column("stretch", "logits ×", "number"), Column("what", "what", "text"),
        Column("largest", "largest error", "error"), Column("x_largest", "× sdpa's largest", "ratio"),
        Column("x_rms", "× sdpa's rms", "ratio"),
    ),
    rows=rows,
)  # fmt: skip

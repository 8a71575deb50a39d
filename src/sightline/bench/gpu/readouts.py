"""Readouts, in shares of a vendor's forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from sightline.bench.gpu.clock import mark, sized, timed
from sightline.bench.gpu.passes import Shape, contenders, drawn
from sightline.bench.sections.section import CASE, DTYPE, MS, SPREAD, BenchSection, Column
from sightline.bench.session import OURS, Row, Session
from sightline.bench.timing import take_turns
from sightline.call.attention import attention
from sightline.matrix import AttentionMatrix

#: Shares of cuDNN's forward pass in bfloat16 at 1 x 16 x 16384 x 128.
TARGETS = {"received, entropy": 0.6, "received, entropy, top-8": 0.8}
#: Whose forward pass is the measure: the first that runs.
_MEASURES = ("cudnn", "sdpa flash", "sdpa efficient", OURS)


def rows(session: Session) -> Iterator[Row]:
    """One long sequence, where each readout is a row."""
    shape: Shape = sized(session, full=(1, 16, 16384, 128), quick=(1, 16, 16384, 128), tiny=(1, 2, 16, 8))
    dtype = sized(session, full="bfloat16", quick="bfloat16", tiny="float32")
    session.progress("readouts: forward")
    given = drawn(shape, dtype, session.device)
    with torch.no_grad():
        _, matrix = attention(*given[:3], return_matrix=True)
    forward, _ = contenders(session, given, is_causal=False, backward=False)
    measure = next(name for name in _MEASURES if name in forward)
    for name, call in _readouts(matrix).items():
        session.progress(f"readouts: {name}")
        try:
            call()  # what is to be compiled is compiled
        except Exception as error:  # one that fails must not keep the others from being measured
            session.note(OURS, f"failed on {name}: {type(error).__name__}: {error}")
            continue
        turns = {name: timed(call, session.device), measure: timed(forward[measure], session.device)}
        samples = take_turns(turns, session.settings.budget, wall=session.device.type != "cpu")
        share = samples[measure].over(samples[name])
        row: Row = {
            "case": f"({','.join(map(str, shape))}) full", "dtype": dtype, "readouts": name,
            "ms": samples[name].median * 1e3, "spread": samples[name].spread,
            "measure": measure, "of_forward": share,
        }  # fmt: skip
        target = TARGETS.get(name)
        yield row | ({} if target is None else mark(session, share, target, least=False))


def _readouts(matrix: AttentionMatrix) -> dict[str, Callable[[], object]]:
    k = min(8, matrix.shape[3])
    x = torch.ones(matrix.shape[3], 64, device=matrix.device)
    return {
        "received": lambda: matrix.received(),
        "entropy": lambda: matrix.entropy(),
        "received, entropy": lambda: matrix.readouts("received", "entropy"),
        "received, entropy, top-8": lambda: matrix.readouts("received", "entropy", topk=k),
        "a picture of 512 x 512": lambda: matrix.pool(512, 512),
        "a sum of w³": lambda: matrix.reduce(_cube),
        "A @ x, 64 columns": lambda: matrix @ x,
        "A.mT @ x, 64 columns": lambda: matrix.mT @ x,
    }


def _cube(weights: Tensor, scores: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """What no kernel knows."""
    return weights**3


SECTION = BenchSection(
    name="gpu-readouts",
    title="On a device: readouts",
    note="The lse is known, as after attention(..., return_matrix=True).",
    columns=(
        CASE, DTYPE, Column("readouts", "readouts", "text"), MS, SPREAD,
        Column("measure", "forward pass of", "text"), Column("of_forward", "shares of it", "ratio"),
        Column("target", "target", "text"), Column("mark", "mark", "text"),
    ),
    rows=rows,
)  # fmt: skip

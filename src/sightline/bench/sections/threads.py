"""One thread against two, in wall time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch

from sightline.bench.case import Case, inputs
from sightline.bench.pattern import CAUSAL, FULL
from sightline.bench.peers import load_peer
from sightline.bench.peers.peer import PreparedCase
from sightline.bench.sections.section import CASE, DTYPE, BenchSection, Column
from sightline.bench.session import Row, Session, figures
from sightline.bench.timing import Spent, clock, take_turns


def rows(session: Session) -> Iterator[Row]:
    """Forward, backward and decode: Sightline's and SDPA's time with two threads."""
    for case in _cases(session):
        session.progress(f"{case}: one thread against two")
        timed = {}
        for name in ("sightline", "sdpa"):
            run = load_peer(name).prepare(case, inputs(case), 1)
            for threads in (1, 2):
                timed[f"{name} {threads}"] = partial(_with_threads, run, threads)
                timed[f"{name} {threads}"](1)
        samples = take_turns(timed, session.settings.budget, wall=True)
        yield {
            "case": str(case),
            "dtype": case.dtype,
            "pass": case.direction,
            "ms_1": samples["sightline 1"].median * 1e3,
            "ms_2": samples["sightline 2"].median * 1e3,
            "speedup": samples["sightline 2"].over(samples["sightline 1"]),
            "sdpa_speedup": samples["sdpa 2"].over(samples["sdpa 1"]),
            "contenders": {name: figures(one, samples["sightline 1"]) for name, one in samples.items()},
        }
    torch.set_num_threads(session.settings.threads)


def _with_threads(run: PreparedCase, threads: int, number: int) -> Spent:
    torch.set_num_threads(threads)
    run.call()  # a thread pool that has just changed its size starts its threads in the first call
    return clock(run.call, number)


def _cases(session: Session) -> Iterator[Case]:
    dtypes = session.pick(full=("float32", "bfloat16"), quick=("float32",), tiny=("float32", "bfloat16"))
    lengths = session.pick(full=(1024, 4096), quick=(1024,), tiny=(16,))
    for dtype, n, pattern in product(dtypes, lengths, (FULL, CAUSAL)):
        heads = 2 if n < 64 or n > 2048 else 8
        yield Case(n, dtype=dtype, heads=heads, pattern=pattern)
    for dtype in dtypes:
        yield Case(lengths[0], dtype=dtype, pattern=CAUSAL, direction="backward")
        keys, width = session.pick(full=(8192, 128), quick=(8192, 128), tiny=(16, 8))
        yield Case(1, width, dtype, heads=32, kv_heads=8, keys=keys)


SECTION = BenchSection(
    name="threads",
    title="Two threads",
    note="Wall time: other work on the machine shows, and on a busy core two threads are as slow as one.",
    columns=(
        CASE, DTYPE, Column("pass", "pass", "text"), Column("ms_1", "1 thread ms", "ms"),
        Column("ms_2", "2 threads ms", "ms"), Column("speedup", "speed-up", "ratio"),
        Column("sdpa_speedup", "sdpa's speed-up", "ratio"),
    ),
    rows=rows,
)  # fmt: skip

"""The instruction sets below the best: everyone restricted to AVX2, in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from sightline.bench.case import Case
from sightline.bench.judge import verdict
from sightline.bench.pattern import CAUSAL, FULL
from sightline.bench.sections.section import CASE, DTYPE, MS, SPREAD, BenchSection, Column
from sightline.bench.session import OURS, Row, Session, figures
from sightline.bench.timing import take_turns
from sightline.core import library as native

# What keeps PyTorch and the libraries under it from using AVX-512.
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "SIGHTLINE_ISA": "avx2",
}


def rows(session: Session) -> Iterator[Row]:
    """Sightline and SDPA without AVX-512, if the machine has it."""
    if native.available() is not None or "avx512" not in native.levels():
        return
    dtypes = session.pick(full=("float32", "bfloat16"), quick=("float32",), tiny=("float32",))
    lengths = session.pick(full=(1024,), quick=(1024,), tiny=(16,))
    for dtype, n, pattern in product(dtypes, lengths, (FULL, CAUSAL)):
        case = Case(n, dtype=dtype, pattern=pattern)
        session.progress(f"{case} with AVX2")
        hosts = {name: session.host(name, AVX2) for name in (OURS, "sdpa")}
        wrong = {name: verdict(case, host.load(case)) for name, host in hosts.items()}
        samples = take_turns({name: host.time for name, host in hosts.items()}, session.settings.budget)
        for host in hosts.values():
            host.drop()
        ours = samples[OURS]
        yield {
            "case": str(case),
            "dtype": dtype,
            "level": "avx2",
            "ms": ours.median * 1e3,
            "spread": ours.spread,
            "gflops": case.flops / ours.median / 1e9,
            "x_sdpa": ours.over(samples["sdpa"]),
            "verdict": "; ".join(f"{name}: {problem}" for name, problem in wrong.items() if problem) or "ok",
            "contenders": {name: figures(one, ours) for name, one in samples.items()},
        }


SECTION = BenchSection(
    name="levels",
    title="Without AVX-512",
    note=f"Forward, AVX-512 off for everyone ({', '.join(AVX2)}). Empty on machines without AVX-512.",
    columns=(
        CASE, DTYPE, Column("level", "level", "text"), MS, SPREAD, Column("gflops", "GFLOP/s", "number"),
        Column("x_sdpa", "× sdpa", "ratio"), Column("verdict", "check", "text"),
    ),
    rows=rows,
)  # fmt: skip

"""Forward: native levels against PyTorch SDPA, as ratios and as shares of the measured FMA peak."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F

import sightline
from benchmarks.timing import take_turns
from sightline.backend import native

CASES = [(n, d, causal) for d in (64, 128) for n in (1024, 4096) for causal in (False, True)]


def rows(rounds: int, budget: float) -> Iterator[dict[str, Any]]:
    """One row per case and level: medians, the ratio to SDPA and the share of the peak."""
    for n, d, causal in CASES:
        query, key, value = (torch.randn(1, 8, n, d) for _ in range(3))
        mask = sightline.causal() if causal else None
        flops = 4 * 8 * n * d * ((n + 1) / 2 if causal else n)
        peaks: dict[str, list[float]] = {level: [] for level in native.levels()}

        def ours(level: str, q=query, k=key, v=value, m=mask) -> Callable[[], object]:  # type: ignore[no-untyped-def]
            def run() -> object:
                with forced(level):
                    return sightline.attention(q, k, v, mask=m)

            return run

        def peak(level: str, into=peaks) -> Callable[[], object]:  # type: ignore[no-untyped-def]
            def run() -> None:
                with forced(level):
                    into[level].append(native.peak_gflops(0.02))

            return run

        def sdpa(q=query, k=key, v=value, c=causal) -> object:  # type: ignore[no-untyped-def]
            return F.scaled_dot_product_attention(q, k, v, is_causal=c)

        contenders: dict[str, Callable[[], object]] = {"sdpa": sdpa}
        for level in native.levels():
            contenders |= {level: ours(level), f"peak {level}": peak(level)}
        found = take_turns(contenders, rounds, budget)
        for level in native.levels():
            samples = found[level]
            speeds = [flops / s / 1e9 for s in samples.seconds]
            shares = [speed / top for speed, top in zip(speeds, peaks[level][1:], strict=True)]
            yield {
                "case": f"(1,8,{n},{d}) {'causal' if causal else 'full'}",
                "level": level,
                "ms": samples.median * 1e3,
                "spread": samples.spread,
                "gflops": statistics.median(speeds),
                "best gflops": max(speeds),
                "peak gflops": statistics.median(peaks[level]),
                "best peak": max(peaks[level]),
                "share of peak": statistics.median(shares),
                "best share": max(speeds) / max(peaks[level]),
                "times sdpa": samples.over(found["sdpa"]),
                "sdpa gflops": flops / found["sdpa"].median / 1e9,
            }


@contextmanager
def forced(level: str) -> Iterator[None]:
    """Runs a block at one instruction-set level."""
    before = os.environ.get("SIGHTLINE_ISA")
    os.environ["SIGHTLINE_ISA"] = level
    try:
        yield
    finally:
        if before is None:
            del os.environ["SIGHTLINE_ISA"]
        else:
            os.environ["SIGHTLINE_ISA"] = before

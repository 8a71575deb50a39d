"""Forward: native levels against PyTorch SDPA, as ratios and as shares of the measured FMA peak."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

import sightline
from benchmarks.timing import take_turns
from sightline.backend import native

CASES = [(n, d, causal) for d in (64, 128) for n in (1024, 4096) for causal in (False, True)]

# What keeps PyTorch and the libraries under it from using AVX-512.
WITHOUT_AVX512 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "SIGHTLINE_ISA": "avx2",
}

_SCRIPT = """
import json, sys
from benchmarks.forward import one
print(json.dumps(one(*json.loads(sys.argv[1]))))
"""


def rows(rounds: int, budget: float) -> Iterator[dict[str, Any]]:
    """The active level in every case; then AVX2 alone, with AVX-512 off for everyone."""
    for n, d, causal in CASES:
        yield one(n, d, causal, rounds, budget)
    if "avx512" not in native.levels():
        return
    for n, d, causal in CASES[:4]:
        run = subprocess.run(
            [sys.executable, "-c", _SCRIPT, json.dumps([n, d, causal, rounds, budget])],
            env={**os.environ, **WITHOUT_AVX512},
            capture_output=True,
            text=True,
            check=True,
        )
        yield json.loads(run.stdout)


def one(n: int, d: int, causal: bool, rounds: int, budget: float) -> dict[str, Any]:
    """One case at the active level: speed, share of the peak of the same round, ratio to SDPA."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 8, n, d) for _ in range(3))
    mask = sightline.causal() if causal else None
    flops = 4 * 8 * n * d * ((n + 1) / 2 if causal else n)
    peaks: list[float] = []
    contenders: dict[str, Callable[[], object]] = {
        "peak": lambda: peaks.append(native.peak_gflops(0.03)),
        "sightline": lambda: sightline.attention(query, key, value, mask=mask),
        "sdpa": lambda: F.scaled_dot_product_attention(query, key, value, is_causal=causal),
    }
    found = take_turns(contenders, rounds, budget)
    ours, theirs = found["sightline"], found["sdpa"]
    speeds = [flops / seconds / 1e9 for seconds in ours.seconds]
    shares = [speed / peak for speed, peak in zip(speeds, peaks[1:], strict=True)]
    return {
        "case": f"(1,8,{n},{d}) {'causal' if causal else 'full'}",
        "level": native.built_levels()[native.level()],
        "ms": ours.median * 1e3,
        "± %": 100 * ours.spread,
        "GF/s": statistics.median(speeds),
        "of peak": statistics.median(shares),
        "at best": max(speeds) / max(peaks),
        "× sdpa": ours.over(theirs),
        "sdpa at best": flops / min(theirs.seconds) / 1e9 / max(peaks),
        "peak": max(peaks),
    }

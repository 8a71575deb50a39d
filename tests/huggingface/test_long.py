"""Long inputs through a Transformers model: memory stays linear, the numbers exact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.bench.resident import AVAILABLE

PROGRAM = Path(__file__).with_name("long_run.py")
SIZES = {  # dtype, hidden, query heads, key heads, MLP width
    "bfloat16": ("bfloat16", 256, 4, 2, 688),
    "float32": ("float32", 128, 2, 1, 256),
}

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="peaks are read from Linux's /proc")


def figures(tokens, size):
    """The program's results; its peak in MB."""
    # glibc keeps freed memory below its mmap threshold, which it raises by itself unless it is given.
    run = subprocess.run(
        [sys.executable, PROGRAM, str(tokens), *map(str, SIZES[size])],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout)
    print(results)  # pytest -s shows it
    return results


def check_exact(results):
    for name in ("entropy", "top", "place", "lse", "last", "received"):
        assert results[name] < 2e-5, name
    assert results["total"] < 1e-5  # every query gives away 1


@pytest.mark.slow
def test_4096_tokens():
    results = figures(4096, "bfloat16")
    check_exact(results)
    # A token takes 8.7 kB, most of it Transformers' own. The weights of the two layers would take 270 MB.
    assert results["peak"] * 2**20 < 100e6


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
def test_131072_tokens(size):
    results = figures(131_072, size)
    check_exact(results)
    assert results["peak"] * 2**20 < 1.5e9

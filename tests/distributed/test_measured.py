"""The program that measures attention on several processes: what it prints is so, at small sizes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def printed(*arguments: object) -> str:
    """What the program prints; its processes are started anew, so it is a program of its own here, too."""
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "several_measured.py", *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_samples_and_a_picture_against_brute_force():
    out = printed("million", "--tokens", 3001, "--window", 33)
    assert "3001 tokens, window of 33" in out
    errors = dict(re.findall(r"^  (.+): largest error (\S+)$", out, re.MULTILINE))
    assert list(errors) == ["rows", "columns", "context", "entropy", "received", "row 32 of the picture"]
    assert all(float(error) < 1e-5 for error in errors.values()), out
    assert float(re.search(r"picture: sum (\S+)", out)[1]) == pytest.approx(3001, abs=0.01)
    assert re.findall(r"^  (alone|process \d):", out, re.MULTILINE) == ["alone", "process 0", "process 1"]


@pytest.mark.slow
def test_a_slow_link_takes_as_long_as_its_bytes():
    out = printed("link", "--tokens", 2048, "--processes", 2, "--gigabytes", 0.001, "--runs", 1)
    size = 2 * 4 * 1024 * 64 * 4  # keys and values of 4 heads
    assert f"at most {size / 1e6:.1f} MB per hop" in out
    took, sent, hidden = re.search(r"0.001 GB/s: (\S+) s .*, (\S+)% of (\S+) ms hidden", out).group(1, 3, 2)
    # Process 1 sees only the front half of what process 0 holds: half of it does not travel.
    assert 1.5 * size / 1e3 <= float(sent) + 1 < 2 * size / 1e3
    assert float(took) >= size / 1e6 and 0 <= float(hidden) < 50


@pytest.mark.slow
def test_speed_beside_one_process():
    out = printed("speed", "--tokens", 256, "--processes", 2, "--runs", 1)
    assert re.findall(r"^2 processes, (.*): \S+ s, alone", out, re.MULTILINE) == ["forward", "with backward"]


@pytest.mark.slow
def test_the_table_of_other_machines_is_what_the_model_gives():
    out = printed("model")
    rows = re.findall(
        r"(\S+) tokens: a hop computes (\S+) s, sends \S+ MB in (\S+) s; (\S+) s in all, (\S+) ", out
    )
    found = {(at // 3, tokens): rest for at, (tokens, *rest) in enumerate(rows)}
    text = (ROOT / "docs" / "several-processes.md").read_text(encoding="utf-8")
    table = re.findall(
        r"^\|.*\| (10?) million \| (\S+) s \| (?:\S+ GB, )?(.*?) \| (.*?) \| all \|$", text, re.MULTILINE
    )
    assert len(table) == 6
    for at, (millions, computes, sends, in_all) in enumerate(table):
        own = found[at // 2, f"{int(millions) * 10**6:,}"]
        assert float(own[0]) == pytest.approx(float(computes), rel=0.01)
        assert float(own[1]) == pytest.approx(seconds(sends), rel=0.05)
        assert float(own[2]) == pytest.approx(seconds(in_all), rel=0.02) and own[3] == "100%"


def seconds(told: str) -> float:
    """Of "17 ms", "2.6 s" or "57 min"."""
    number, unit = told.split()
    return float(number) * {"ms": 1e-3, "s": 1, "min": 60}[unit]

"""What a call took, without what new pages cost."""

import sys
import time
from pathlib import Path

import pytest
import torch

from sightline.products import stopwatch


def busy():
    end = time.thread_time() + 4e-3
    while time.thread_time() < end:
        pass


def test_seconds_of_this_thread():
    assert 4e-3 <= stopwatch.seconds(busy) < 40e-3
    assert stopwatch.seconds(lambda: time.sleep(0.02)) < 10e-3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the pages of a thread")
def test_new_pages_are_counted_and_left_out(monkeypatch):
    spent, faults = stopwatch._measured(lambda: torch.empty(16 << 20, dtype=torch.uint8).fill_(1))
    assert faults >= 8  # as few, where pages are large
    monkeypatch.setattr(stopwatch, "_for_a_fault", lambda: 1.0)
    assert stopwatch.seconds(lambda: torch.empty(48 << 20, dtype=torch.uint8).fill_(1)) < 0
    monkeypatch.undo()
    assert 0 <= stopwatch._for_a_fault() < 1e-3
    assert spent > 0


def test_systems_that_count_none(monkeypatch):
    monkeypatch.setattr(stopwatch, "_STATISTICS", Path("/proc/nothing"))
    assert stopwatch.seconds(lambda: torch.ones(4 << 20)) >= 0
    assert stopwatch._probe() >= 0

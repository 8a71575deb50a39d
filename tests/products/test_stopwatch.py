"""What a call took, without what new pages cost."""

import mmap
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
    assert 2e-3 <= stopwatch.seconds(busy) < 40e-3
    assert stopwatch.seconds(lambda: time.sleep(0.02)) < 10e-3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the pages of a thread")
def test_new_pages_are_counted():
    def touch():
        with mmap.mmap(-1, 8 << 20) as pages:
            for at in range(0, 8 << 20, mmap.PAGESIZE):
                pages[at] = 1

    spent, faults = stopwatch._measured(touch)
    assert faults >= 4 and spent > 0  # as few, where pages are large
    assert 0 <= stopwatch._for_a_fault() < 1e-3


@pytest.mark.parametrize("faults, price, wanted", [(0, 1.0, 8.0), (3, 1.0, 5.0), (3, 100.0, 4.0)])
def test_new_pages_are_left_out_but_for_half_of_the_time(faults, price, wanted, monkeypatch):
    monkeypatch.setattr(stopwatch, "_measured", lambda call: (8.0, faults))
    monkeypatch.setattr(stopwatch, "_for_a_fault", lambda: price)
    assert stopwatch.seconds(busy) == wanted


def test_systems_that_count_none(monkeypatch):
    monkeypatch.setattr(stopwatch, "_STATISTICS", Path("/proc/nothing"))
    assert stopwatch.seconds(lambda: torch.ones(4 << 20)) >= 0
    assert stopwatch._probe() >= 0

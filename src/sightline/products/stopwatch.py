"""The CPU time of a call, without what the system took for new pages of memory.

Whether a result lies in memory that was used before or in new pages is an accident of what was freed before.
New ones take up to a quarter of the time of a product with 384 rows: too much to compare two ways by.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch

_STATISTICS = Path("/proc/thread-self/stat")  # of Linux
_FAULTS = 7  # behind the program's name, which may hold anything
_PROBE, _PROBES = 1 << 20, 5  # bytes, and how often


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of this thread for one call; half of what it took at least: a page's price is a guess."""
    spent, faults = _measured(call)
    return max(spent / 2, spent - faults * _for_a_fault()) if faults else spent


def _measured(call: Callable[[], object]) -> tuple[float, int]:
    """CPU seconds of this thread, and the pages that it touched for the first time."""
    faults, start = _faults(), time.thread_time()
    call()
    return time.thread_time() - start, _faults() - faults


@cache
def _for_a_fault() -> float:
    """CPU seconds that a new page takes: half of several probes took longer."""
    return sorted(_probe() for _ in range(_PROBES))[_PROBES // 2]


def _probe() -> float:
    """What touching a page for the first time takes more than touching it again."""
    with mmap.mmap(-1, _PROBE) as pages:
        touch = partial(torch.frombuffer(pages, dtype=torch.uint8).fill_, 1)
        (new, faults), (old, _) = _measured(touch), _measured(touch)
        del touch  # pages that are still looked at cannot be closed
    return max(0.0, new - old) / max(1, faults)


def _faults() -> int:
    """Pages that this thread has touched for the first time; 0 where the system does not say."""
    try:
        fields = _STATISTICS.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[_FAULTS])

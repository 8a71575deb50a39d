"""Freed memory stays with the process, in large pages; where that cannot be, nothing changes."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

import sightline
from sightline.products import freed_memory, keep_freed_memory, large_pages


class Libc:
    """A stand-in that has so many bytes to give."""

    def __init__(self, room: int) -> None:
        self.room, self.settings, self.advised, self.freed = room, {}, [], []

    def mallopt(self, name: int, value: int) -> int:
        self.settings[name] = value
        return 1

    def malloc(self, size: int) -> int | None:
        return (1 << 40) + 16 if size <= self.room else None

    def advise(self, address: int, size: int, advice: int) -> int:
        self.advised.append((address, size, advice))
        return 0

    def free(self, address: int) -> None:
        self.freed.append(address)


@pytest.fixture
def libc(monkeypatch):
    """A glibc of our own on a Linux with 64 GB, which counts no memory before it is touched."""
    found = Libc(1 << 50)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(freed_memory, "_glibc", lambda: found)
    monkeypatch.setattr(freed_memory, "_physical", lambda: 64 << 30)
    monkeypatch.setattr(freed_memory, "_overcommit", lambda: "0")
    monkeypatch.setattr(freed_memory, "_set_aside", None)
    monkeypatch.setattr(large_pages, "why_not", lambda: None)
    monkeypatch.setattr(large_pages, "large_page_bytes", lambda: 2 << 20)
    monkeypatch.setattr(large_pages, "advise", found.advise)
    monkeypatch.delenv("MALLOC_PERTURB_", raising=False)
    return found


def test_a_quarter_of_the_memory_is_set_aside_and_given_back_to_malloc(libc):
    assert sightline.info()["freed memory"] == "goes back to the system"
    keep_freed_memory()
    assert libc.settings == {-4: 0, -1: -1}
    ((address, size, advice),) = libc.advised
    assert address % (2 << 20) == 0 and size % (2 << 20) == 0 and advice == 14
    assert (16 << 30) - (4 << 20) <= size <= 16 << 30
    assert libc.freed == [(1 << 40) + 16]
    assert sightline.info()["freed memory"] == "kept, 16.0 GB set aside for large pages"
    keep_freed_memory(4)  # less than there is
    assert len(libc.advised) == 1


def test_where_malloc_has_less_half_of_it_is_asked_for(libc):
    libc.room = 3 << 30
    keep_freed_memory()
    assert sightline.info()["freed memory"].startswith("kept, 2.0 GB")
    libc.room = 1 << 20
    keep_freed_memory(40)
    assert sightline.info()["freed memory"].startswith("kept, 2.0 GB")


@pytest.mark.parametrize("why", ["strict accounting", "malloc writes to it", "no large pages", "0"])
def test_nothing_is_set_aside(libc, monkeypatch, why):
    if why == "strict accounting":
        monkeypatch.setattr(freed_memory, "_overcommit", lambda: "2")
    elif why == "malloc writes to it":
        monkeypatch.setenv("MALLOC_PERTURB_", "17")
    elif why == "no large pages":
        monkeypatch.setattr(large_pages, "why_not", lambda: "none")
    keep_freed_memory(0 if why == "0" else None)
    assert libc.settings and not libc.advised
    assert sightline.info()["freed memory"] == "kept"


def test_no_more_is_asked_for_than_there_is(libc):
    keep_freed_memory(1e30)
    assert libc.advised[0][1] <= 64 << 30


def test_what_makes_no_sense():
    for wrong, error in (("4", TypeError), (True, TypeError), (-1, ValueError), (float("nan"), ValueError)):
        with pytest.raises(error, match="gigabytes"):
            keep_freed_memory(wrong)


def test_other_systems_and_libraries(monkeypatch):
    def nothing(name):
        raise AssertionError("no library is looked into")

    monkeypatch.setattr(ctypes, "CDLL", nothing)
    for system in ("win32", "darwin"):
        monkeypatch.setattr(sys, "platform", system)
        keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # musl has no mallopt
    freed_memory._glibc.cache_clear()
    try:
        keep_freed_memory()
    finally:
        freed_memory._glibc.cache_clear()


_PROGRAM = """
import resource, sys
import torch
import sightline
if sys.argv[1] == "keep":
    sightline.keep_freed_memory(gigabytes=0.5)
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
kept = torch.ones(1000)
for _ in range(3):
    before = faults()
    for _ in range(4):
        large = [torch.ones(10_000_000) for _ in range(3)]
        del large
    found = faults() - before
print(found, sightline.info()["freed memory"])
"""


def test_tensors_reuse_memory_and_large_pages():
    if freed_memory._glibc() is None or not sys.platform.startswith("linux"):
        pytest.skip("another C library")
    if "asan" in Path("/proc/self/maps").read_text(encoding="utf-8"):
        pytest.skip("the sanitizers have a malloc of their own")

    def faults(how: str) -> tuple[int, str]:
        run = subprocess.run(
            [sys.executable, "-c", _PROGRAM, how], capture_output=True, encoding="utf-8", check=True
        )
        count, _, said = run.stdout.strip().partition(" ")
        return int(count), said

    (before, gone), (after, kept) = faults("not"), faults("keep")
    assert gone == "goes back to the system"
    assert after < 100 < before  # 120 MB are 30,000 pages
    if large_pages.why_not() is None:
        assert kept == "kept, 0.5 GB set aside for large pages"

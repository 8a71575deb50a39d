"""Memory that tensors free stays with the process, in large pages, for the tensors that come next."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

from sightline.common.check import number
from sightline.products import large_pages

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h
_NEVER = -1
_MADV_HUGEPAGE = 14  # of Linux: large pages, where memory is touched for the first time
#: Of this machine's memory, the part that is set aside where nothing else is asked for.
_SHARE = 4
_LEAST = 64 << 20
_GIGABYTE = 1 << 30
_OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")

_set_aside: int | None = None  # bytes, once memory is kept


def keep_freed_memory(gigabytes: float | None = None) -> None:
    """Makes tensors reuse the memory of those before them, and in large pages; for the rest of the process.

    By default, glibc returns what large tensors free to the system, and the next ones get new pages of 4 KB,
    each of which is cleared and mapped when it is touched: a forward pass of BERT-base asks for 20,000 of
    them. From this call on, memory stays with the process, and what is touched for the first time comes in
    pages of 2 MB. The process holds on to as much as it has ever needed at once. Call it when the program
    begins, in its first thread, and before it makes processes of its own.

    Args:
        gigabytes: of address space that is set aside for large pages; what is not used takes no memory. By
            default a quarter of the machine's memory; none where Linux counts it as used
            (``vm.overcommit_memory=2``). 0: memory is kept, in pages as they come, and so it is with less
            than 0.0625 (64 MB), which few large pages would fill.

    Raises:
        TypeError: for ``gigabytes`` that are no number.
        ValueError: if they are negative, or not finite.

    With other systems and C libraries nothing changes; ``sightline info`` says what came of it.

    Example:
        >>> import sightline
        >>> sightline.keep_freed_memory(gigabytes=1)
    """
    global _set_aside
    wanted = _by_default() if gigabytes is None else _asked(gigabytes)
    libc = _glibc() if sys.platform == "linux" else None
    if libc is None:
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    _set_aside = _set_aside or 0
    if wanted > _set_aside and large_pages.why_not() is None:
        _set_aside = max(_set_aside, _reserve(libc, wanted))


def facts() -> dict[str, str]:
    """For ``sightline info``."""
    if _set_aside is None:
        return {"freed memory": "goes back to the system"}
    aside = f", {_set_aside / _GIGABYTE:.1f} GB set aside for large pages" if _set_aside else ""
    return {"freed memory": f"kept{aside}"}


def _asked(gigabytes: float) -> int:
    """No more than there is: address space that is not used costs nothing, but malloc refuses the rest."""
    wanted = number("gigabytes", gigabytes, 0, remedy="0 keeps memory and sets none aside.")
    return int(min(wanted * _GIGABYTE, _physical()))


def _by_default() -> int:
    if "MALLOC_PERTURB_" in os.environ:  # malloc would write to all of it
        return 0
    return 0 if _overcommit() == "2" else _physical() // _SHARE


def _overcommit() -> str:
    """How Linux counts what was not used yet; "2": as used."""
    try:
        return _OVERCOMMIT.read_text(encoding="ascii").strip()
    except OSError:
        return "2"


def _physical() -> int:
    """Bytes of memory that this machine has; 0 where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


def _reserve(libc: Any, wanted: int) -> int:
    """Bytes that malloc has now, to come in large pages; half as many where it has less."""
    size = large_pages.large_page_bytes()
    while wanted >= _LEAST:
        begin = libc.malloc(wanted)
        if begin:
            first = -(-begin // size) * size
            large_pages.advise(first, (begin + wanted - first) // size * size, _MADV_HUGEPAGE)
            libc.free(begin)  # which keeps it, as nothing is given back any more
            return wanted
        wanted //= 2
    return 0


@cache
def _glibc() -> Any | None:
    """glibc, or ``None`` where another library is the system's."""
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    except (OSError, AttributeError):
        return None
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    return libc

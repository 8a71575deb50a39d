"""Memory that training frees and takes again in every step."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Large tensors reuse the last step's memory; by default glibc returns it, and pages fault anew.

    That took a fifth of the time of a small translation model. It counts for the rest of the process; with
    other C libraries nothing changes.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _LARGEST)

"""Memory that training frees and takes again in every step, and what it need not keep."""

from __future__ import annotations

import ctypes
import os
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


def keep_few_products() -> None:
    """oneDNN forgets the code of products whose shapes have not come for some steps.

    It makes code for each shape, and keeps 1,024 of them; nearly every batch of texts has shapes of its own.
    In bfloat16 a translation model took 14 GB after 600 steps, and 7 GB so. It counts from before the first
    product on; a number that the environment has stands.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

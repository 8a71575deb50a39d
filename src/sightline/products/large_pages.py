"""Weights in large pages of memory: a product that walks over 4 KB pages waits for their addresses."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")
_USUAL = 2 << 20
#: Larger ones, as ARM with base pages of 64 KB has (512 MB), would take memory that no tensor fills.
_MOST = 4 << 20
#: Linux's advice, since 6.1, to make the pages at an address one large page at once.
_MADV_COLLAPSE = 25
#: No more is asked for after so many pages in a row for which there was no room.
_PATIENCE = 8
_NO_ROOM = (errno.ENOMEM, errno.EAGAIN, errno.EBUSY)


@dataclass(frozen=True)
class LargePages:
    """How much of the memory of some tensors lies in large pages.

    Attributes:
        bytes: of the large pages.
        of: bytes of the large pages that were asked for: those that tensors fill by a quarter and more.
        why: why not all are there; "" if they are.
    """

    bytes: int = 0
    of: int = 0
    why: str = ""

    def __str__(self) -> str:
        reason = f": {self.why}" if self.why else ""
        return f"{self.bytes / 1e6:.0f} of {self.of / 1e6:.0f} MB{reason}"


def move_to_large_pages(tensors: Iterable[Tensor]) -> LargePages:
    """Asks the system to hold tensors in large pages; their addresses and their values stay what they are.

    Memory is mapped in pages of 4 KB, and a processor knows the addresses of a few thousand of them. A row
    of a weight lies in another page than the row before, so a product over many rows looks up address after
    address; in large pages (2 MB) it does not. Takes 1 to 2 ms a page, up to 7 ms in a virtual machine that
    has not used that memory before. Memory that a process shares with the one it was forked from becomes its
    own.

    Args:
        tensors: any; only those in this machine's memory count.

    Returns:
        A :class:`LargePages`: what the system gave. It may give nothing, and says so; nothing is raised.

    Example:
        >>> import torch
        >>> from sightline.products import move_to_large_pages
        >>> move_to_large_pages([torch.ones(3)]).of  # far less than a page
        0
    """
    return move_spans({_span(tensor) for tensor in tensors})


def move_spans(spans: Iterable[tuple[int, int]]) -> LargePages:
    """The same of memory from one address to another, each span once."""
    size = large_page_bytes() or _USUAL
    pages = _filled(spans, size)
    reason = why_not()
    given, reason = _collapse(pages, size) if reason is None else (0, reason)
    return LargePages(given * size, len(pages) * size, reason if pages else "")


def why_not() -> str | None:
    """Why this system gives no large pages; ``None`` if it may."""
    if not sys.platform.startswith("linux"):
        return "only Linux makes pages large where they are"
    if not large_page_bytes():
        return f"this Linux has none ({_SETTINGS} is missing)"
    if large_page_bytes() > _MOST:
        return f"they have {large_page_bytes() >> 20} MB here, far more than a weight fills"
    if setting() == "never":
        return f"they are switched off ({_SETTINGS / 'enabled'} is never)"
    return None


@cache
def large_page_bytes() -> int:
    """The size of a large page; 0 where there are none."""
    try:
        return int((_SETTINGS / "hpage_pmd_size").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def setting() -> str:
    """Who gets large pages without asking on this Linux: always, madvise (nobody) or never; "" if unknown."""
    try:
        words = (_SETTINGS / "enabled").read_text(encoding="ascii").split()
    except OSError:
        return ""
    return next((word.strip("[]") for word in words if word.startswith("[")), "")


def facts() -> dict[str, str]:
    """For ``sightline info``."""
    return {"large pages": why_not() or f"{large_page_bytes() >> 20} MB; {setting()}"}


def _span(tensor: Tensor) -> tuple[int, int]:
    """The addresses of a tensor's storage; (0, 0) where it has none of its own here."""
    # A subclass may stand for memory that is elsewhere.
    if type(tensor.data) is not Tensor or tensor.device.type != "cpu" or tensor.layout != torch.strided:
        return 0, 0
    storage = tensor.untyped_storage()
    return storage.data_ptr(), storage.data_ptr() + storage.nbytes()


def _filled(spans: Iterable[tuple[int, int]], size: int) -> list[int]:
    """Addresses of the large pages of which the spans fill at least a quarter."""
    filled: Counter[int] = Counter()
    for begin, end in spans:
        for page in range(begin // size, -(-end // size)):
            filled[page] += min(end, (page + 1) * size) - max(begin, page * size)
    return sorted(page * size for page, share in filled.items() if 4 * share >= size)


def _collapse(pages: list[int], size: int) -> tuple[int, str]:
    """How many pages became large, or were; and why others did not."""
    given = in_vain = problem = 0
    for page in pages:
        failed = _advise(page, size)
        if not failed:
            given, in_vain = given + 1, 0
            continue
        problem, in_vain = failed, in_vain + (failed in _NO_ROOM)
        if in_vain == _PATIENCE:
            break
    return given, _in_words(problem, given) if problem else ""


def _advise(address: int, size: int) -> int:
    """0, or the number of the error."""
    return advise(address, size, _MADV_COLLAPSE)


def advise(address: int, size: int, advice: int) -> int:
    """Tells Linux what memory is for; 0, or the number of the error."""
    return ctypes.get_errno() if _libc().madvise(address, size, advice) else 0


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc


def _in_words(problem: int, given: int) -> str:
    if problem in _NO_ROOM:
        return "the system has no room in one piece for the others"
    if problem != errno.EINVAL:
        return f"the system says: {os.strerror(problem)}"
    if given:
        return "the others lie in files, or where memory ends"
    return "they lie in files, or this Linux is older than 6.1"

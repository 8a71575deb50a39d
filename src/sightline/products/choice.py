"""Which way a product is made: forced, known, or measured now."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from threading import Lock
from typing import TypeAlias

import torch

from sightline.common.check import SettingError
from sightline.products import freed_memory, large_pages, memory
from sightline.products.measurement import fastest, fastest_packing
from sightline.products.packings import PACKINGS
from sightline.products.shapes import FORMS, ProductClass, rows_class, size_class
from sightline.products.ways import DTYPES, WAYS

#: Names of the ways of a layer's products, by form; the first alone where no gradients are asked for.
Ways: TypeAlias = tuple[str, ...]


def _known(name: str, source: str) -> str:
    if name != "auto" and name not in WAYS:
        raise SettingError(f"{source}: there is no way {name!r} to multiply; known: auto, {', '.join(WAYS)}.")
    return name


@cache
def _everywhere() -> str:
    """What the environment asks for, read once: a short layer would wait for it."""
    return _known(os.environ.get("SIGHTLINE_PRODUCT") or "auto", "SIGHTLINE_PRODUCT")


_forced: ContextVar[str | None] = ContextVar("sightline_product", default=None)
_ways: dict[tuple[torch.dtype, str, str, bool], Ways] = {}  # by what choose() finds them by
_packings: dict[tuple[torch.dtype, str, str], str | None] = {}  # by what choose_packing() finds them by
_recalled: dict[str, str] | None = None  # by class
_measuring = Lock()


@contextmanager
def product(name: str) -> Iterator[None]:
    """Forces one way to multiply in linear layers inside the block; SIGHTLINE_PRODUCT does so everywhere.

    Args:
        name: ``"pytorch"`` (what ``torch.nn.functional.linear`` does), ``"onednn"`` (oneDNN's inner product),
            ``"native"`` (the native core's product of float32), ``"float32"`` (bfloat16 and float16 converted
            to float32, multiplied, and rounded once; float32 stays with PyTorch), or ``"auto"``: the fastest,
            measured once for each class of products on each machine and remembered in
            ``~/.cache/sightline/products.json``.

    Raises:
        ValueError: for an unknown name. A forced way that cannot take a dtype raises in the call.

    Example:
        >>> import sightline, torch
        >>> layer = sightline.nn.Linear(8, 4)
        >>> with sightline.product("pytorch"):
        ...     same = torch.equal(layer(torch.ones(2, 8)), torch.nn.Linear.forward(layer, torch.ones(2, 8)))
        >>> same
        True
    """
    token = _forced.set(_known(name, "product"))
    try:
        yield
    finally:
        _forced.reset(token)


def choose(dtype: torch.dtype, rows: int, weights: int, recorded: bool) -> Ways:
    """The ways of a layer with so many rows and weights; ``recorded``: gradients will be asked for."""
    asked = _forced.get() or _everywhere()
    if asked != "auto":
        return (_able(asked, dtype),) * (3 if recorded else 1)
    key = dtype, rows_class(rows), size_class(weights), recorded
    return _ways.get(key) or _found(*key)


def choose_packing(dtype: torch.dtype, rows: int, weights: int) -> str | None:
    """The packing for a layer of such sizes; ``None`` where none pays, or where a way is forced."""
    if (_forced.get() or _everywhere()) != "auto":
        return None
    key = dtype, rows_class(rows), size_class(weights)
    if key not in _packings:
        (way,) = choose(dtype, rows, weights, recorded=False)
        with _measuring:
            name = _packing(ProductClass("packed", *key), way)
            _packings[key] = None if name == "none" else name
    return _packings[key]


def titles(dtype: torch.dtype, rows: int, weights: int) -> tuple[str, str, str]:
    """What the ways of a layer's three products are, in words."""
    names = choose(dtype, rows, weights, recorded=True) if dtype in DTYPES else ("pytorch",) * 3
    forward, grad_input, grad_weight = (WAYS[name].title for name in names)
    return forward, grad_input, grad_weight


def facts() -> dict[str, str]:
    """What is known of each dtype, of large pages and of freed memory, for ``sightline info``."""
    asked = _forced.get() or _everywhere()
    found = {
        "linear layers": f"{asked}, from {memory.path()}" if asked == "auto" else f"{asked}, as asked for"
    }
    for dtype in DTYPES if asked == "auto" else ():
        name = str(dtype).removeprefix("torch.")
        known = [_recall(ProductClass(form, dtype, "many", "large")) or "?" for form in FORMS]
        packed = _known_here().get(str(ProductClass("packed", dtype, "some", "large")), "none")
        also = "" if packed == "none" else f"; {packed} with packed weights"
        found[f"linear {name}"] = f"{known[0]} forward, {known[1]} and {known[2]} for gradients{also}"
    return found | large_pages.facts() | freed_memory.facts()


def _found(dtype: torch.dtype, rows: str, size: str, recorded: bool) -> Ways:
    """Recalled or measured, by one thread at a time."""
    with _measuring:
        forms = FORMS if recorded else FORMS[:1]
        ways = tuple(_fastest(ProductClass(form, dtype, rows, size)) for form in forms)
        _ways[dtype, rows, size, recorded] = ways
    return ways


def _fastest(of: ProductClass) -> str:
    known = _recall(of)
    if known is None:
        known = fastest(of)
        _known_here()[str(of)] = known
        memory.remember(str(of), known)
    return known


def _packing(of: ProductClass, way: str) -> str:
    known = _known_here().get(str(of))
    if known == "none" or (known and known in PACKINGS and PACKINGS[known].why_not(of.dtype) is None):
        return known
    found = fastest_packing(of, way)
    _known_here()[str(of)] = found
    memory.remember(str(of), found)
    return found


def _known_here() -> dict[str, str]:
    """What is known of this machine, read once."""
    global _recalled
    if _recalled is None:
        _recalled = memory.recall()
    return _recalled


def _recall(of: ProductClass) -> str | None:
    name = _known_here().get(str(of))
    if name is None or name not in WAYS:
        return None
    return name if WAYS[name].why_not(of.dtype) is None else None


def _able(name: str, dtype: torch.dtype) -> str:
    if name == "float32" and dtype == torch.float32:
        return "pytorch"
    reason = WAYS[name].why_not(dtype)
    if reason is not None:
        raise ValueError(f"product: {name!r} was asked for, but {reason}. Use product('auto').")
    return name

"""Whose reductions are compiled: by PyTorch's inductor, on a GPU.

In plain PyTorch every step goes through the GPU's memory: scale, mask, weights, each operation of the user's
function, the sum. Compiled they are one kernel, which reads the products of queries and keys once.

Compiling takes seconds, so a function is compiled once enough pairs were asked for. What cannot be compiled
is computed as it was written, and said.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sightline.backends.contract import Over
from sightline.common import compiling, triton
from sightline.common.dispatcher import is_quiet
from sightline.matrix.block_reductions import Given, reductions
from sightline.matrix.followed.reduction import Function, Operation

#: Where functions are compiled: where the compiler makes kernels of Triton.
DEVICES = ("cuda",)
#: How many pairs a function must have been asked for in the process. Plain PyTorch moves some 100 bytes for
#: each, so that these cost it a tenth of a second on the largest cards and seconds on small ones.
WORTH = 1 << 32
#: Entries of a block for compiled code: 128 MB of float32, one tensor of which is alive. All keys are brought
#: to float32 for each block, so that a block of few queries would spend its time on them.
BLOCK_ENTRIES = 1 << 25
#: How many kinds of blocks are compiled, over all functions.
_KINDS = 256

#: PyTorch's name for its own compiler.
_BACKEND = "inductor"

_pairs: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
_dropped: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
#: Why no function is compiled any more in this process.
_broken: list[str] = []


def why_not(function: Function, device: torch.device, pairs: int) -> str | None:
    """Why a function is not compiled for that many pairs more: "" on other devices, ``None`` if it is."""
    if device.type not in DEVICES:
        return ""
    if triton.missing() is not None:
        return f"it is not compiled: {triton.missing()}"
    fault = _broken[0] if _broken else _dropped.get(_kind(function))
    if fault is not None:
        return f"it could not be compiled: {fault}"
    if _pairs.get(_kind(function), 0) + pairs < WORTH:
        return f"it is compiled once it was asked for {WORTH:,} pairs"
    return None if is_quiet() else "it is not compiled where a mode, a transform or a profiler listens"


def asked_for(functions: Sequence[Function], pairs: int) -> None:
    """Notes that functions were asked for, which in the end makes them worth their compiling."""
    for function in functions:
        _pairs[_kind(function)] = _pairs.get(_kind(function), 0) + pairs


def drop(functions: Sequence[Function], error: Exception) -> None:
    """Compiles these no more in this process, or none at all where the compiler fails; and says so."""
    cause = getattr(error, "inner_exception", error)  # what made the compiler fail
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    fault = f"{type(cause).__name__}: {lines[0] if lines else 'no message'}"
    if isinstance(error, torch._dynamo.exc.BackendCompilerFailed):
        _broken.append(fault)
    for function in functions:
        _dropped[_kind(function)] = fault
    warnings.warn(
        f"sightline: reduce runs in plain PyTorch, as its function could not be compiled: {fault}",
        RuntimeWarning,
        stacklevel=2,
    )


def forget() -> None:
    """Holds nothing against any function, and counts anew."""
    _pairs.clear()
    _dropped.clear()
    _broken.clear()


def _kind(function: Any) -> Any:
    """What functions have in common that are written in one place: PyTorch compiles them once, too."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__code__", type(function))


@cache
def compiled() -> Callable[..., tuple[Tensor, ...]]:
    """:func:`reductions`, compiled for any lengths."""
    return torch.compile(reductions, fullgraph=True, dynamic=True, backend=_BACKEND)


def computed(functions: Sequence[Function], block: Given, over: Over, op: Operation) -> tuple[Tensor, ...]:
    """The reductions of a block by compiled code; raises whatever the compiler does."""
    from torch.fx.experimental import _config

    shapes: Any = _config
    with ExitStack() as stack:
        stack.enter_context(compiling.kinds(_KINDS))
        # Or else code for as many queries as keys would be made anew for another number of either.
        stack.enter_context(shapes.patch(use_duck_shape=False))
        return compiled()(tuple(functions), block, over, op)

"""Whether a kernel's lse can be relied on: a sample of rows is computed again on its first use in a process.

Kernels that gave a wrong lse have been released before (off by ln 2, not written, padded): the weights that
are made with it would be wrong without an error.
"""

from __future__ import annotations

import warnings
from threading import Lock

import torch
from torch import Tensor

from sightline.backends.block import MatrixBlock
from sightline.backends.problem import Problem
from sightline.backends.schedule import Place
from sightline.backends.softmax import own_sums

_ROWS = 16
#: Far above what rounding does to an lse, far below what a fault does.
_LSE, _CONTEXT = 0.02, 0.05

_known: set[tuple[object, ...]] = set()
_dropped: dict[str, str] = {}
_lock = Lock()


def dropped(name: str) -> str | None:
    """Why a kernel is no longer used in this process; ``None`` if it is."""
    return _dropped.get(name)


def trusted(name: str, problem: Problem, context: Tensor, lse: Tensor) -> bool:
    """Whether a kernel's answer, without sinks, is right as far as a sample of its rows goes.

    The first answer for each dtype, width and kind of heads and mask is looked at.
    """
    masked, width = problem.ranges is not None, problem.query.shape[3]
    kind = (name, problem.query.dtype, width, problem.group > 1, masked, problem.shape[2] == 1)
    if kind in _known:
        return True
    fault = _fault(problem, context, lse)
    with _lock:
        if fault is None:
            _known.add(kind)
            return True
        drop(name, fault)
    return False


def drop(name: str, fault: str) -> None:
    """Uses a kernel no more in this process, and says so."""
    if name not in _dropped:
        _dropped[name] = fault
        warnings.warn(
            f"sightline: the kernel {name!r} of PyTorch {torch.__version__} is not used in this process: "
            f"{fault}.",
            RuntimeWarning,
            stacklevel=3,
        )


def forget() -> None:
    """Trusts nobody again, and holds nothing against anybody."""
    _known.clear()
    _dropped.clear()


def _fault(problem: Problem, context: Tensor, lse: Tensor) -> str | None:
    n = problem.shape[2]
    if lse.shape != problem.shape[:3]:
        return f"its lse has the shape {list(lse.shape)}, not {list(problem.shape[:3])}"
    step = max(1, n // _ROWS)
    for first in {0, n % step, n - 1}:
        rows = slice(first, n, step)
        place = Place(slice(0, 1), rows, slice(0, problem.shape[3]))
        block = MatrixBlock(problem, place, None)
        sums = own_sums(block.masked, None)
        wanted = sums.top + sums.log_sum
        weights = torch.exp(block.masked - wanted[..., None])
        of_lse = float((lse[:1, :, rows] - wanted).abs().max())
        if not of_lse <= _LSE * (1 + float(wanted.abs().max()) / 16):
            return f"its lse is off by {of_lse:.3g}"
        of_context = float((context[:1, :, rows].float() - block.context(weights)).abs().max())
        scale = 1 + float(problem.value.float().abs().max()) if problem.value is not None else 1.0
        if not of_context <= _CONTEXT * scale:
            return f"its context is off by {of_context:.3g}"
    return None

"""Whether a kernel's lse can be relied on: a sample of rows is computed again on its first use in a process.

Kernels that gave a wrong lse have been released before (off by ln 2, not written, padded): the weights that
are made with it would be wrong without an error.
"""

from __future__ import annotations

import warnings
from itertools import product
from threading import Lock

import torch
from torch import Tensor

from sightline.backends.block import MatrixBlock
from sightline.backends.problem import Problem
from sightline.backends.schedule import Place
from sightline.backends.softmax import own_sums, weights_of

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

    The first answer for each dtype and each kind of shape and mask is looked at.
    """
    kind = (name, problem.query.dtype, *_shape(problem), *_terms(problem))
    if kind in _known:
        return True
    fault = _fault(problem, context, lse)
    with _lock:
        if fault is None:
            _known.add(kind)
            return True
        drop(name, fault)
    return False


def _shape(problem: Problem) -> tuple[object, ...]:
    """What a fault may hang on: of one query and of many, of grouped heads, of a causal mask's corner."""
    b, _, n, m = problem.shape
    widths = problem.query.shape[3], None if problem.value is None else problem.value.shape[3]
    return (*widths, b > 1, problem.group > 1, n == 1, n == m)


def _terms(problem: Problem) -> tuple[object, ...]:
    """Which masks, biases and other terms a problem has: with each, another kernel may run."""
    ranges = None if problem.ranges is None else (problem.ranges.shape[0] > 1, problem.ranges.shape[3])
    fields = (problem.visible, problem.bias, problem.slopes, problem.table, problem.softcap)
    return (ranges, *(one is not None for one in fields))


def failure(error: Exception) -> str:
    """What to say of a kernel that raised an error."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"it failed with {type(error).__name__}: {lines[0].strip() if lines else 'no message'}"


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
    for b, first in product({0, problem.shape[0] - 1}, {0, n % step, n - 1}):
        entry, rows = slice(b, b + 1), slice(first, n, step)
        place = Place(entry, rows, slice(0, problem.shape[3]))
        block = MatrixBlock(problem, place, None)
        sums = own_sums(block.masked, None)
        wanted = sums.top + sums.log_sum
        of_lse = _off(lse[entry, :, rows], wanted)
        if not of_lse <= _LSE * (1 + _size(wanted) / 16):
            return f"its lse is off by {of_lse:.3g}"
        of_context = _off(context[entry, :, rows].float(), block.context(weights_of(block.masked, sums)))
        if not of_context <= _CONTEXT * (1 + _size(problem.value)):
            return f"its context is off by {of_context:.3g}"
    return None


def _off(found: Tensor, wanted: Tensor) -> float:
    """The largest distance; what is NaN by right, from a number that was given, says nothing of a kernel."""
    same = (found == wanted) | ~(wanted < torch.inf)
    return float((found - wanted).abs().masked_fill(same, 0).max())


def _size(tensor: Tensor | None) -> float:
    """The largest of the numbers that are finite."""
    return 0.0 if tensor is None else float(tensor.float().nan_to_num(0, 0, 0).abs().max())

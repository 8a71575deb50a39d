"""The native library: finding it, its instruction-set levels, and its structs, through ctypes.

The library speaks plain C (``native/include/sightline.h``), so one build serves every Python and PyTorch.
ctypes releases the GIL during each call.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import struct
import sys
from pathlib import Path

from sightline.common.check import SettingError

ABI = 3
_MESSAGES = {
    1: "out of memory",
    2: "unknown level",
    3: "this machine cannot run the level",
    4: "invalid argument",
    5: "failed",
}


class ProblemStruct(ctypes.Structure):
    """sightline_problem; see the header for what each field means."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("batch", "heads", "kv_heads", "queries", "keys")),
        *((name, ctypes.c_int64) for name in ("width", "value_width")),
        ("query", ctypes.c_void_p),
        ("query_stride", ctypes.c_int64 * 3),
        ("key", ctypes.c_void_p),
        ("key_stride", ctypes.c_int64 * 3),
        ("value", ctypes.c_void_p),
        ("value_stride", ctypes.c_int64 * 3),
        ("dtype", ctypes.c_int32),
        ("scale", ctypes.c_float),
        ("softcap", ctypes.c_float),
        ("ranges", ctypes.c_void_p),
        ("range_stride", ctypes.c_int64 * 3),
        ("range_count", ctypes.c_int64),
        ("visible", ctypes.c_void_p),
        ("visible_stride", ctypes.c_int64 * 4),
        ("visible_map", ctypes.c_void_p),
        ("visible_map_stride", ctypes.c_int64 * 3),
        ("bias", ctypes.c_void_p),
        ("bias_dtype", ctypes.c_int32),
        ("bias_stride", ctypes.c_int64 * 4),
        ("slopes", ctypes.c_void_p),
        ("slope_stride", ctypes.c_int64 * 2),
        ("table", ctypes.c_void_p),
        ("table_stride", ctypes.c_int64),
        ("radius", ctypes.c_int64),
        ("offset", ctypes.c_void_p),
        ("offset_stride", ctypes.c_int64),
        ("sinks", ctypes.c_void_p),
        ("sink_stride", ctypes.c_int64),
        ("seed", ctypes.c_uint64),
        ("keep_threshold", ctypes.c_uint32),
        ("keep_scale", ctypes.c_float),
    ]


# The same fields in the same order, to be written in one go.
PROBLEM = struct.Struct("@7q P3q P3q P3q i2f P3qq P4q P3q Pi4q P2q Pqq Pq Pq QIf")


class GradientsStruct(ctypes.Structure):
    """sightline_gradients; null pointers are not computed."""

    _fields_ = [
        ("context", ctypes.c_void_p),
        ("context_stride", ctypes.c_int64 * 3),
        ("lse", ctypes.c_void_p),
        ("grad_context", ctypes.c_void_p),
        ("grad_context_stride", ctypes.c_int64 * 3),
        ("grad_lse", ctypes.c_void_p),
        ("query", ctypes.c_void_p),
        ("query_stride", ctypes.c_int64 * 3),
        ("key", ctypes.c_void_p),
        ("key_stride", ctypes.c_int64 * 3),
        ("value", ctypes.c_void_p),
        ("value_stride", ctypes.c_int64 * 3),
        ("bias", ctypes.c_void_p),
        ("bias_stride", ctypes.c_int64 * 4),
        *((name, ctypes.c_void_p) for name in ("slopes", "table", "sinks")),
    ]


GRADIENTS = struct.Struct("@P3q P P3q P P3q P3q P3q P4q 3P")


class ReadoutsStruct(ctypes.Structure):
    """sightline_readouts; null pointers are not computed."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("entropy", "received", "max_weight", "max_index")),
        *((name, ctypes.c_void_p) for name in ("max_score", "topk_weights", "topk_indices")),
        ("k", ctypes.c_int64),
        ("distance", ctypes.c_void_p),
        ("position", ctypes.c_void_p),
        ("position_stride", ctypes.c_int64),
        ("cells", ctypes.c_void_p),
        ("cell_stride", ctypes.c_int64),
        ("cell_count", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("cell_sum", "cell_max", "cell_seen")),
    ]


class PlanStruct(ctypes.Structure):
    """sightline_plan_info."""

    _fields_ = [
        ("path", ctypes.c_int32),
        ("workers", ctypes.c_int32),
        ("parts", ctypes.c_int64),
        ("pairs", ctypes.c_int32),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    """The loaded library.

    Raises:
        OSError: where it was not built, or is of another version.
    """
    path = _find()
    lib = ctypes.CDLL(str(path))
    lib.sightline_level_name.restype = ctypes.c_char_p
    lib.sightline_backward.argtypes = [ctypes.c_int32, ctypes.c_int32, *[ctypes.c_void_p] * 2]
    lib.sightline_forward.argtypes = [ctypes.c_int32, ctypes.c_int32, *[ctypes.c_void_p] * 4]
    for peak in (lib.sightline_peak_gflops, lib.sightline_peak_dot_gflops):
        peak.restype = ctypes.c_double
        peak.argtypes = [ctypes.c_int32, ctypes.c_double]
    found = lib.sightline_abi()
    if found != ABI:
        raise OSError(f"{path} speaks version {found} of the interface, expected {ABI}. Build it again.")
    return lib


def _find() -> Path:
    given = os.environ.get("SIGHTLINE_NATIVE")
    if given:
        return Path(given)
    for folder in sys.modules["sightline"].__path__:
        for name in ("_native.so", "_native.dylib", "_native.dll"):
            if (Path(folder) / name).is_file():
                return Path(folder) / name
    raise OSError("the native library is not there. Install the package: pip install .")


def available() -> str | None:
    """``None`` if the library can be used, else why not."""
    try:
        library()
    except OSError as error:
        return str(error)
    return None


def levels() -> list[str]:
    """Names of the levels in this build that this machine can run, slowest first."""
    lib = library()
    count = lib.sightline_level_count()
    return [lib.sightline_level_name(i).decode() for i in range(count) if lib.sightline_level_supported(i)]


def built_levels() -> list[str]:
    """Names of all levels in this build."""
    lib = library()
    return [lib.sightline_level_name(i).decode() for i in range(lib.sightline_level_count())]


def level() -> int:
    """Number of the level to run: the best of the machine, or what SIGHTLINE_ISA says.

    Raises:
        ValueError: for a name that does not exist, or a level that this machine lacks.
    """
    return _level(os.environ.get("SIGHTLINE_ISA", ""))


@functools.cache
def _level(forced: str) -> int:
    built, here = built_levels(), levels()
    if not forced:
        return built.index(here[-1])
    if forced not in built:
        raise SettingError(
            f"SIGHTLINE_ISA: there is no level {forced!r} in this build for {platform.machine()}; "
            f"it has {', '.join(built)}."
        )
    if forced not in here:
        raise SettingError(
            f"SIGHTLINE_ISA: this machine cannot run {forced!r}; it can run {', '.join(here)}."
        )
    return built.index(forced)


def check(status: int, what: str) -> None:
    """Raises for a status that is not OK: MemoryError, or RuntimeError."""
    if status == 0:
        return
    message = f"{what}: the native core reports: {_MESSAGES.get(status, f'status {status}')}."
    raise MemoryError(message) if status == 1 else RuntimeError(message)


def peak_gflops(seconds: float = 0.2) -> float:
    """GFLOP/s of fused multiply-adds that one core reaches at the active level."""
    return float(library().sightline_peak_gflops(level(), seconds))


def peak_dot_gflops(seconds: float = 0.2) -> float:
    """GFLOP/s of bfloat16 dot products that one core reaches at the active level; 0 where it has none."""
    return float(library().sightline_peak_dot_gflops(level(), seconds))

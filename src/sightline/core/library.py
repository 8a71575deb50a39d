"""The native library: finding it, and its instruction-set levels, through ctypes.

The library speaks plain C (``native/include/sightline.h``), so one build serves every Python and PyTorch.
ctypes releases the GIL during each call.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from pathlib import Path

from sightline.common.check import SettingError

ABI = 12
_MESSAGES = {
    1: "out of memory",
    2: "unknown level",
    3: "this machine cannot run the level",
    4: "invalid argument",
    5: "failed",
}


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
    spoken = lib.sightline_abi()
    if spoken != ABI:
        raise OSError(f"{path} speaks version {spoken} of the interface, expected {ABI}. Build it again.")
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
    """Names of the levels in this build that this machine can run, from the plainest up."""
    lib = library()
    count = lib.sightline_level_count()
    return [lib.sightline_level_name(i).decode() for i in range(count) if lib.sightline_level_supported(i)]


def built_levels() -> list[str]:
    """Names of all levels in this build."""
    lib = library()
    return [lib.sightline_level_name(i).decode() for i in range(lib.sightline_level_count())]


def level() -> int:
    """Number of the level to run: the fastest of the machine, or what SIGHTLINE_ISA says.

    Raises:
        ValueError: for a name that does not exist, or a level that this machine lacks.
    """
    return _level(os.environ.get("SIGHTLINE_ISA", ""))


@functools.cache
def _level(forced: str) -> int:
    if not forced:
        return int(library().sightline_best_level())
    built, here = built_levels(), levels()
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

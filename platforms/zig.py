"""The core and its check, compiled by Zig for any system."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from platforms.target import Target

ROOT = Path(__file__).parents[1]

#: What a C compiler is told, to make the check.
CHECK = (
    "-std=c99",
    "-D_DEFAULT_SOURCE",
    "-O1",
    f"-I{ROOT / 'native' / 'include'}",
    str(ROOT / "native" / "check" / "check.c"),
)


@functools.cache
def zig() -> str | None:
    """The program, which the package ziglang brings; ``None`` where it is not there."""
    try:
        import ziglang
    except ImportError:
        return shutil.which("zig")
    found = Path(ziglang.__file__).parent / ("zig.exe" if os.name == "nt" else "zig")
    return str(found) if found.is_file() else None


def lacking() -> str | None:
    """What compiling needs and is not there, if anything."""
    if zig() is None:
        return "Zig is not there (pip install ziglang)"
    missing = [name for name in ("cmake", "ninja") if shutil.which(name) is None]
    return f"{missing[0]} is not there (pip install {missing[0]})" if missing else None


def folder(target: Target) -> Path:
    """Where a system's build lies."""
    return ROOT / "build" / target.zig


def is_like_here(target: Target) -> bool:
    """Whether it is this machine's kind: system and processor."""
    return target.zig.startswith(f"{platform.machine()}-{sys.platform}")


def definitions(target: Target) -> dict[str, str]:
    """What CMake is told."""
    return {
        "CMAKE_TOOLCHAIN_FILE": str(ROOT / "cmake" / "zig.cmake"),
        "SIGHTLINE_TARGET": target.zig,
        "SIGHTLINE_ZIG": str(zig()),
    }


def build_core(target: Target) -> Path:
    """The library, made or brought up to date.

    Raises:
        subprocess.CalledProcessError: it does not compile.
    """
    given = [f"-D{name}={value}" for name, value in definitions(target).items()]
    made = folder(target)
    subprocess.run(["cmake", "-S", ROOT, "-B", made, "-G", "Ninja", *given], check=True)
    subprocess.run(["cmake", "--build", made], check=True)
    return made / target.library


def build_check(target: Target) -> Path:
    """``native/check`` as a program of that system."""
    made = folder(target) / ("check.exe" if "windows" in target.zig else "check")
    libraries = ["-dynamic", "-lm", "-ldl"] if "linux" in target.zig else []
    program = zig()
    assert program is not None
    subprocess.run([program, "cc", "-target", target.zig, *CHECK, "-o", made, *libraries], check=True)
    return made

"""The systems, and what runs a program of each of them on this machine."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One way to run a program of another system.

    Attributes:
        title: what it is like.
        program: what the program's name is put behind.
        needs: a file that must be there, too; the first of several.
        packages: Debian's packages that bring all of it.
        levels: of instructions, which the core must find there; none: whatever it finds.
        options: of the check.
    """

    title: str
    program: tuple[str, ...] = ()
    needs: str = ""
    packages: str = ""
    levels: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def lacking(self) -> str | None:
        """Why it cannot run, if it cannot."""
        if self.program and shutil.which(self.program[0]) is None:
            return f"{self.program[0]} is not there (Debian: apt install {self.packages})"
        if self.needs and not Path(self.needs).exists():
            return f"{self.needs} is not there (Debian: apt install {self.packages})"
        if not self.program and not (sys.platform == "linux" and platform.machine() == "x86_64"):
            return f"this machine is {sys.platform} on {platform.machine()}"
        return None


@dataclass(frozen=True)
class Target:
    """A system that wheels are for.

    Attributes:
        zig: its name for Zig.
        tag: its platform in a wheel's name.
        library: the file that CMake makes for it.
        runs: how it is tried; none: it is compiled, and tried on such a machine alone.
    """

    zig: str
    tag: str
    library: str = "_native.so"
    runs: tuple[Run, ...] = ()


# Its 7.2 falls over where a forked program starts threads.
_OF_QEMU = ("--no-fork",)


def _x86(cpu: str, title: str, *levels: str) -> Run:
    return Run(title, ("qemu-x86_64", "-cpu", cpu), packages="qemu-user", levels=levels, options=_OF_QEMU)


def _arm(cpu: str, title: str, *levels: str) -> Run:
    loader = "/usr/aarch64-linux-gnu"
    program = ("qemu-aarch64", "-cpu", cpu, "-L", loader)
    return Run(title, program, loader, "qemu-user libc6-arm64-cross", levels, _OF_QEMU)


# Debian keeps it off PATH.
_WINE = shutil.which("wine64") or "/usr/lib/wine/wine64"
_MUSL = "/lib/ld-musl-x86_64.so.1"

TARGETS = (
    Target(
        "x86_64-linux-gnu.2.28",
        "manylinux_2_28_x86_64",
        runs=(
            Run("this processor"),
            _x86("Nehalem", "a processor of 2008, without AVX", "generic"),
            _x86("SandyBridge", "a processor of 2011, without AVX2", "generic"),
            _x86("Haswell", "a processor of 2013", "generic", "avx2"),
        ),
    ),
    Target(
        "aarch64-linux-gnu.2.28",
        "manylinux_2_28_aarch64",
        runs=(
            _arm("cortex-a53", "ARMv8.0", "generic"),
            _arm("max", "the newest ARM that qemu knows", "generic"),
        ),
    ),
    Target(
        "x86_64-linux-musl",
        "musllinux_1_2_x86_64",
        runs=(Run("this processor, musl", needs=_MUSL, packages="musl"),),
    ),
    Target("aarch64-linux-musl", "musllinux_1_2_aarch64"),
    Target(
        "x86_64-windows-gnu",
        "win_amd64",
        "_native.dll",
        (Run("Windows by Wine", (_WINE,), packages="wine64"),),
    ),
    Target("aarch64-macos", "macosx_11_0_arm64"),
    Target("x86_64-macos", "macosx_11_0_x86_64"),
)


def find_targets(names: list[str]) -> tuple[Target, ...]:
    """Those of these names, Zig's or a wheel's; none: all.

    Raises:
        ValueError: there is no such system.
    """
    by_name = {name: target for target in TARGETS for name in (target.zig, target.tag)}
    for name in names:
        if name not in by_name:
            known = ", ".join(target.zig for target in TARGETS)
            raise ValueError(f"there is no system {name!r}; there are {known}")
    return tuple(by_name[name] for name in names) or TARGETS

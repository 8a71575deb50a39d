"""The machine of a run: what it is, and how fast it is at nothing but multiply-adds."""

from __future__ import annotations

import os
import platform
from datetime import datetime
from pathlib import Path
from typing import Any

from sightline.backends import native
from sightline.bench.timing import Spent, clock
from sightline.call.info import info

# Of all processor flags, those that attention kernels care about.
_FLAGS = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_bf16", "avx512_fp16", "avx512_vnni",
    "amx_tile", "amx_bf16", "amx_fp16", "avx_vnni", "asimd", "asimdhp", "bf16", "sve", "sve2", "i8mm",
)  # fmt: skip


def describe_machine() -> dict[str, Any]:
    """Processor, flags, caches, cores, memory, versions and date, in words."""
    found: dict[str, Any] = {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "flags": " ".join(f for f in _FLAGS if f in (_cpuinfo("flags") or _cpuinfo("Features")).split()),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "system": platform.platform(),
    }
    facts = info()
    found |= {name: facts[name] for name in ("python", "torch", "sightline", "level active") if name in facts}
    return {name: value for name, value in found.items() if value}


def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")


def _memory() -> str:
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    sizes = [int(line.split()[1]) for line in lines if line.startswith("MemTotal")]
    return f"{sizes[0] / 2**20:.0f} GiB" if sizes else ""


class Peak:
    """The peaks, measured whenever it is this contender's turn: GFLOP/s of one core, a number a round."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.fma: list[float] = []
        self.dot: list[float] = []

    def __call__(self, number: int) -> Spent:
        return clock(self._measure, 1)

    def _measure(self) -> None:
        self.fma.append(native.peak_gflops(self.seconds) if native.available() is None else 0.0)
        self.dot.append(dot_peak(self.seconds))


def dot_peak(seconds: float) -> float:
    """GFLOP/s of bfloat16 dot-product instructions; 0 where the machine or this build has none."""
    measure = getattr(native, "peak_dot_gflops", None)
    if measure is None or native.available() is not None:
        return 0.0
    return float(measure(seconds) or 0.0)


def available_gigabytes() -> float:
    """Memory that could be had now; infinite where the system does not tell."""
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    sizes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    return sizes[0] / 2**20 if sizes else float("inf")

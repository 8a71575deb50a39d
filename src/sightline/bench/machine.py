"""The machine of a run: what it is, and how fast it is at multiply-adds alone."""

from __future__ import annotations

import os
import platform
from datetime import datetime
from pathlib import Path
from typing import Any

from sightline.bench.timing import Spent, clock
from sightline.call.info import info
from sightline.core import library as native

# Of all processor flags, those that matter to attention kernels.
_FLAGS = (
    "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_bf16", "avx512_fp16", "avx512_vnni",
    "amx_tile", "amx_bf16", "amx_fp16", "avx_vnni", "asimd", "asimdhp", "bf16", "sve", "sve2", "i8mm",
)  # fmt: skip


def describe_machine() -> dict[str, Any]:
    """Processor, flags, caches, cores, memory, versions and date, in words."""
    memory = _gigabytes("MemTotal")
    machine: dict[str, Any] = {
        "date": datetime.now().astimezone().isoformat(timespec="minutes"),
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "flags": " ".join(f for f in _FLAGS if f in (_cpuinfo("flags") or _cpuinfo("Features")).split()),
        "cores": str(os.cpu_count()),
        "memory": "" if memory is None else f"{memory:.0f} GiB",
        "system": platform.platform(),
    }
    facts = info()
    versions = ("python", "torch", "sightline", "level active", "cuda device", "triton")
    machine |= {name: facts[name] for name in versions if name in facts}
    return {name: value for name, value in machine.items() if value}


def _cpuinfo(field: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")


def _gigabytes(field: str) -> float | None:
    """An entry of Linux's /proc/meminfo; ``None`` where the system does not say."""
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    sizes = [int(line.split()[1]) for line in lines if line.startswith(field)]
    return sizes[0] / 2**20 if sizes else None


def last_cache_bytes() -> int:
    """The largest cache of the first core, as Linux says; 0 where it does not."""
    sizes = [
        path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    ]
    units = {"K": 10, "M": 20, "G": 30}
    return max((int(size[:-1]) << units[size[-1]] for size in sizes if size[-1:] in units), default=0)


def available_gigabytes() -> float:
    """Memory that is available now; infinite where the system does not say."""
    available = _gigabytes("MemAvailable")
    return float("inf") if available is None else available


class Peak:
    """Measures the peaks whenever its turn comes: GFLOP/s of one core, a number for each round."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.fma: list[float] = []
        self.dot: list[float] = []

    def __call__(self, number: int) -> Spent:
        return clock(self._measure, 1)

    def _measure(self) -> None:
        usable = native.available() is None
        self.fma.append(native.peak_gflops(self.seconds) if usable else 0.0)
        self.dot.append(native.peak_dot_gflops(self.seconds) if usable else 0.0)

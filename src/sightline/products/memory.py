"""What was measured on this machine before, from one process to the next."""

from __future__ import annotations

import json
import os
import platform
from functools import cache
from pathlib import Path

import torch

from sightline._version import __version__
from sightline.common.atomic import replacing

#: Settings by which libraries multiply in another way than they would by themselves.
_SETTINGS = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "SIGHTLINE_ISA",
)


def path() -> Path:
    """Where it is kept: ``sightline/products.json`` in the user's folder for what can be made again."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "sightline" / "products.json"


def recall() -> dict[str, str]:
    """What is known of this machine, by class; nothing if the file cannot be read."""
    known = _read().get(_machine(), {})
    return {str(of): str(name) for of, name in known.items()} if isinstance(known, dict) else {}


def remember(of: str, name: str) -> None:
    """Adds one class. Where nothing can be written, the next process measures again."""
    everything = _read()
    known = everything.get(_machine())
    everything[_machine()] = {**(known if isinstance(known, dict) else {}), of: name}
    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        with replacing(path()) as file:
            file.write(json.dumps(everything, indent=1).encode())
    except OSError:
        pass


def _read() -> dict[str, object]:
    try:
        found = json.loads(path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _machine() -> str:
    """What a measurement holds for."""
    settings = "".join(f", {name}={os.environ[name]}" for name in _SETTINGS if os.environ.get(name))
    return f"{_processor()}{settings}, torch {torch.__version__}, sightline {__version__}"


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    level = torch.backends.cpu.get_cpu_capability()
    return f"{next(names, '') or platform.processor() or platform.machine()} ({level})"

"""The sections, by name and in the order in which they run. A new one is a file here and a name below."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.bench.sections.section import BenchSection

SECTIONS: dict[str, str] = {
    name: f"sightline.bench.sections.{name}:SECTION"
    for name in (
        "forward", "backward", "decode", "patterns", "readouts", "losses", "threads", "levels", "errors",
        "memory", "linear", "layer", "models", "endtoend", "trace",
    )
}  # fmt: skip

#: What is measured on a GPU instead.
ON_DEVICE: dict[str, str] = {
    f"gpu-{name}": f"sightline.bench.gpu.{name}:SECTION"
    for name in ("correct", "passes", "readouts", "received", "memory")
}


def load_section(name: str) -> BenchSection:
    """The section with this name."""
    module, attribute = (SECTIONS | ON_DEVICE)[name].split(":")
    section: BenchSection = getattr(importlib.import_module(module), attribute)
    return section

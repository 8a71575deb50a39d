"""The sections, by name and in the order they run. A new section is a file here and a line in SECTIONS."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sightline.bench.sections.section import Section

SECTIONS: dict[str, str] = {
    name: f"sightline.bench.sections.{name}:SECTION"
    for name in (
        "forward", "backward", "decode", "patterns", "readouts", "threads", "levels", "errors", "memory",
        "endtoend", "trace",
    )
}  # fmt: skip


def load_section(name: str) -> Section:
    """The section of that name."""
    module, attribute = SECTIONS[name].split(":")
    section: Section = getattr(importlib.import_module(module), attribute)
    return section

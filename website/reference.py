"""The pages of the API: one for each public name, made from its docstring, and a table for each room."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

# What is no class and no function: said here, for it carries no docstring.
VALUES = {
    "sightline.Align": 'Where query i stands: "bottom-right", "top-left", an offset, or [B] offsets.',
    "sightline.__version__": "The version of Sightline, a string.",
    "sightline.huggingface.NAME": 'The name that Transformers knows Sightline by: "sightline".',
    "sightline.tasks.TASKS": "The tasks by name, and where each is.",
}
"""Public names with no docstring, and what they are."""


@dataclass(frozen=True)
class Room:
    """A public module, its title, and its names in groups; names in no group come last."""

    module: str
    title: str
    groups: dict[str, list[str]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    """What it shows besides ``__all__``: what its functions give back."""

    @property
    def file(self) -> str:
        """Its page: ``nn``."""
        return self.module.removeprefix("sightline.").replace(".", "-")

    def public(self) -> list[str]:
        """Its names: ``__all__``, or those given."""
        module = importlib.import_module(self.module)
        return list(self.names or module.__all__)

    def grouped(self) -> Iterator[tuple[str, list[str]]]:
        """Titles of groups, and the names in each; the last has what is in no other."""
        public = self.public()
        yield from self.groups.items()
        left = [name for name in public if not any(name in group for group in self.groups.values())]
        if left:
            yield "More" if self.groups else "", left


ROOMS = (
    Room(
        "sightline",
        "sightline",
        {
            "Attention": ["attention", "AttentionMatrix", "Readouts", "Align"],
            "Masks": ["causal", "window", "prefix", "lengths", "documents", "ranges", "dense", "Mask"],
            "Biases": ["alibi", "relative", "Bias"],
            "Looking into models": ["trace", "load_trace", "sdpa_override", "widget", "Picture", "Sound"],
            "Changing, removing": ["intervene", "effects"],
            "Over a corpus, and while a model trains": ["profile", "load_profile", "monitor"],
            "From data to answers": ["pipeline"],
            "Speed, and which code runs": [
                "accelerate",
                "product",
                "backend",
                "explain",
                "Explanation",
                "info",
            ],
        },
    ),
    Room(
        "sightline.tracing",
        "Traces",
        names=("call.AttentionCall", "recording.Trace", "calls.Calls", "loading.SavedTrace"),
    ),
    Room("sightline.attribution", "Why, and the lens"),
    Room("sightline.measure", "sightline.measure"),
    Room("sightline.losses", "sightline.losses"),
    Room("sightline.nn", "sightline.nn"),
    Room("sightline.models", "sightline.models"),
    Room("sightline.distributed", "sightline.distributed"),
    Room("sightline.huggingface", "sightline.huggingface"),
    Room("sightline.monitoring", "Monitoring"),
    Room("sightline.tasks", "sightline.tasks"),
    Room("sightline.reference", "The definition", names=("attention",)),
)
"""The public rooms, in the order of the reference."""


@dataclass(frozen=True)
class Named:
    """A public name and where it comes from."""

    room: Room
    name: str

    @property
    def full(self) -> str:
        """``sightline.nn.KVCache``."""
        return f"{self.room.module}.{self.name}"

    @property
    def file(self) -> str:
        """Its page without the ending: that of the room which shows it first."""
        return _pages()[self.full]

    @property
    def thing(self) -> Any:
        """What it names."""
        where, _, last = self.full.rpartition(".")
        return getattr(importlib.import_module(where), last)

    @property
    def sentence(self) -> str:
        """The first paragraph of its docstring."""
        if self.full in VALUES:
            return VALUES[self.full]
        text = inspect.getdoc(self.thing) or ""
        return " ".join(text.split("\n\n")[0].split())


def every_name() -> list[Named]:
    """All that the reference shows, room by room."""
    return [Named(room, name) for room in ROOMS for _, names in room.grouped() for name in names]


@cache
def _pages() -> dict[str, str]:
    """Public names to their pages. What two rooms hand out under the same name is described once."""
    shown: dict[tuple[int, str], str] = {}
    pages = {}
    for named in every_name():
        key = (id(named.thing), named.name) if named.full not in VALUES else (0, named.full)
        pages[named.full] = shown.setdefault(key, named.full)
    return pages


def write(folder: Path) -> list[str]:
    """Writes a page for each room and each name into ``folder``; the rooms' pages by name, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    for room in ROOMS:
        (folder / f"{room.file}.rst").write_text(_room_page(room), encoding="utf-8")
    for named in (named for named in every_name() if named.file == named.full):
        (folder / f"{named.file}.rst").write_text(_name_page(named), encoding="utf-8")
    return [room.file for room in ROOMS]


def _room_page(room: Room) -> str:
    module: ModuleType = importlib.import_module(room.module)
    lines = [
        *_heading(room.title, "="),
        f".. currentmodule:: {room.module}",
        "",
        inspect.getdoc(module) or "",
        "",
    ]
    for title, names in room.grouped():
        lines += _heading(title, "-") if title else []
        lines += [".. list-table::", "   :widths: 30 70", "   :class: names", ""]
        for named in (Named(room, name) for name in names):
            lines += [f"   * - :doc:`{_short(named)} <{named.file}>`", f"     - {named.sentence}"]
        lines.append("")
    lines += [".. toctree::", "   :hidden:", ""]
    own = [Named(room, name) for _, names in room.grouped() for name in names]
    lines += [f"   {_short(named)} <{named.file}>" for named in own if named.file == named.full]
    return "\n".join([*lines, ""])


def _short(named: Named) -> str:
    return named.name.rpartition(".")[2]


def _name_page(named: Named) -> str:
    where, _, last = named.full.rpartition(".")
    lines = [*_heading(last, "="), f".. currentmodule:: {where}", ""]
    if named.full in VALUES:
        lines += [f".. py:data:: {last}", "", f"   {VALUES[named.full]}"]
    elif inspect.isclass(named.thing):
        lines += [f".. autoclass:: {last}", "   :members:", "   :inherited-members: " + _FOREIGN]
        lines += [
            "   :special-members: __call__, __getitem__, __matmul__, __rmatmul__, __and__, __or__, __len__"
        ]
    else:
        lines += [f".. autofunction:: {last}"]
    return "\n".join([*lines, ""])


# Bases whose members are not ours to describe; ``docstrings`` leaves out what is theirs in any case.
_FOREIGN = "Tensor, Module, tuple, dict, BaseException, Exception, Protocol"


def _heading(title: str, line: str) -> list[str]:
    return [title, line * max(3, len(title)), ""]

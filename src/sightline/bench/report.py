"""The results of a run: one plain dictionary, the same in memory, as JSON and behind every table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sightline.bench.machine import describe_machine
from sightline.bench.peers import HIDDEN, PEERS, load_peer
from sightline.bench.sections.section import BenchSection
from sightline.bench.session import Row, Session
from sightline.common.atomic import write_atomically

FORMAT = 1


class BenchReport:
    """Rows as they come in, with the machine, the settings, and who was left out and why."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.complete = False
        self.machine = describe_machine()
        self.sections: dict[str, dict[str, Any]] = {}

    def add(self, section: BenchSection, row: Row) -> None:
        """Adds a finished row."""
        entry = {"title": section.title, "note": section.note, "rows": []}
        self.sections.setdefault(section.name, entry)["rows"].append(row)

    def took(self, section: BenchSection, seconds: float) -> None:
        """Notes how long a section took, in wall time."""
        if section.name in self.sections:
            self.sections[section.name]["wall_seconds"] = round(seconds, 1)

    def rows(self, name: str) -> list[Row]:
        """The finished rows of a section."""
        return list(self.sections.get(name, {}).get("rows", []))

    @property
    def count(self) -> int:
        """How many rows are finished."""
        return sum(len(section["rows"]) for section in self.sections.values())

    def peers(self) -> dict[str, dict[str, Any]]:
        """By name: title, version if installed, and the reasons why it was left out of something."""
        versions, notes = self._session.versions, self._session.notes
        return {
            name: {
                "title": load_peer(name).title,
                "version": versions.get(name),
                "notes": list(notes.get(name, {})),
            }
            for name in PEERS
            if name not in HIDDEN and (name in versions or name in notes)
        }

    def notes(self) -> list[str]:
        """A line for every peer that was left out of something, saying why."""
        lines = [f"{p['title']}: {'; '.join(p['notes'])}" for p in self.peers().values() if p["notes"]]
        others = {name: reasons for name, reasons in self._session.notes.items() if name not in PEERS}
        return lines + [f"{name}: {'; '.join(reasons)}" for name, reasons in others.items()]

    def as_dict(self) -> dict[str, Any]:
        """Everything."""
        settings = self._session.settings
        return {
            "format": FORMAT,
            "complete": self.complete,
            "settings": {
                "size": settings.size,
                "threads": settings.threads,
                "time": "wall" if self._session.wall else "cpu",
                "budget_seconds": settings.budget.seconds,
            },
            "machine": self.machine,
            "peers": self.peers(),
            "notes": self.notes(),
            "sections": self.sections,
        }

    def write(self, path: Path) -> None:
        """Writes the JSON file, whole or not at all."""
        write_atomically(path, [json.dumps(self.as_dict(), indent=1, ensure_ascii=False), "\n"])

"""A section as headings and cells of text: what the terminal and the page both show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sightline.bench.sections.section import Column, Section
from sightline.bench.session import OURS, Row

ABSENT = "–"


@dataclass(frozen=True)
class Grid:
    """Rectangular: every row has a cell for each heading."""

    title: str
    note: str
    headings: list[str]
    numeric: list[bool]
    rows: list[list[str]]


def grid(section: Section, rows: Sequence[Row], peers: Sequence[str]) -> Grid:
    """The section's table; columns that nobody fills are left away.

    Args:
        peers: names in the order of their columns.
    """
    columns = [c for c in section.columns if any(row.get(c.key) is not None for row in rows)]
    shown = [p for p in peers if section.peers and p != OURS and any(_took_part(row, p) for row in rows)]
    return Grid(
        title=section.title,
        note=section.note,
        headings=[c.heading for c in columns] + [f"× {peer}" for peer in shown],
        numeric=[c.kind != "text" for c in columns] + [True] * len(shown),
        rows=[[_cell(row, c) for c in columns] + [peer_cell(row, p) for p in shown] for row in rows],
    )


def _took_part(row: Row, peer: str) -> bool:
    return bool(row["contenders"].get(peer, {}).get("status", "left out") != "left out")


def peer_cell(row: Row, peer: str) -> str:
    """How many times as long as Sightline, or why there is no number, in a word."""
    found = row["contenders"].get(peer, {})
    if "ratio" in found:
        return written(found["ratio"], "ratio")
    status = str(found.get("status", "left out"))
    return ABSENT if status in ("left out", "ok") else status


def _cell(row: Row, column: Column) -> str:
    value = row.get(column.key)
    if value is None and column.key == "ms":
        return str(row.get("contenders", {}).get(OURS, {}).get("status", ABSENT))
    return written(value, column.kind)


def written(value: Any, kind: str) -> str:
    """A figure with as many digits as mean something."""
    if value is None:
        return ABSENT
    if kind == "text":
        return str(value)
    if kind == "percent":
        return f"{100 * value:.0f} %"
    if kind == "fine percent":
        return f"{100 * value:.1f} %"
    if kind == "error":
        return f"{value:.1e}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 or kind != "ms" else f"{value:.4f}"

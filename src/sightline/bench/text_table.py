"""A section as headings and cells of text, for both the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sightline.bench.sections.section import BenchSection, Column
from sightline.bench.session import OURS, Row

ABSENT = "–"


@dataclass(frozen=True)
class TextTable:
    """Rectangular: every row has a cell for each heading."""

    title: str
    note: str
    headings: list[str]
    numeric: list[bool]
    rows: list[list[str]]


def section_table(section: BenchSection, rows: Sequence[Row], peers: Sequence[str]) -> TextTable:
    """A section's table; empty columns are left out.

    Args:
        section: with the columns.
        rows: what was measured.
        peers: names in the order of their columns.
    """
    columns = [c for c in section.columns if any(row.get(c.key) is not None for row in rows)]
    others = section.contenders or (peers if section.peers else ())
    shown = [p for p in others if p != OURS and any(_took_part(row, p) for row in rows)]
    return TextTable(
        title=section.title,
        note=section.note,
        headings=[c.heading for c in columns] + [f"× {peer}" for peer in shown],
        numeric=[c.kind != "text" for c in columns] + [True] * len(shown),
        rows=[[_cell(row, c) for c in columns] + [peer_cell(row, p) for p in shown] for row in rows],
    )


def _took_part(row: Row, peer: str) -> bool:
    return bool(row["contenders"].get(peer, {}).get("status", "left out") != "left out")


def peer_cell(row: Row, peer: str) -> str:
    """How many times as long as Sightline a peer takes, or in a word why there is no number."""
    contender = row["contenders"].get(peer, {})
    if "ratio" in contender:
        return written(contender["ratio"], "ratio")
    status = str(contender.get("status", "left out"))
    return ABSENT if status in ("left out", "ok") else status


def _cell(row: Row, column: Column) -> str:
    value = row.get(column.key)
    if value is None and column.key == "ms":
        return str(row.get("contenders", {}).get(OURS, {}).get("status", ABSENT))
    return written(value, column.kind)


def written(value: Any, kind: str) -> str:
    """A figure with as many digits as are meaningful; ``kind`` as in Column."""
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

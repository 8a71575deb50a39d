"""The tables as Markdown, between two marks in a page that people write the rest of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sightline.bench.grid import Grid
from sightline.bench.report import Report
from sightline.common.atomic import check_writable, write_atomically
from sightline.common.errors import CommandError

BEGIN = "<!-- sightline bench: begin (what stands between these marks is written by --markdown) -->"
END = "<!-- sightline bench: end -->"


def check_page(path: Path) -> None:
    """Complain before anything is measured.

    Raises:
        CommandError: it cannot be written, or it is a page without the marks: nothing of it is overwritten.
    """
    check_writable(path)
    if path.exists():
        _around(path)


def write_page(path: Path, report: Report, grids: Sequence[Grid]) -> None:
    """Puts the run between the marks of ``path``; a page that is not there is made, with marks."""
    before, after = _around(path) if path.exists() else ("# Benchmarks\n\n", "\n")
    write_atomically(path, [before, BEGIN, "\n", "\n".join(lines(report, grids)), "\n", END, after])


def _around(path: Path) -> tuple[str, str]:
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise CommandError(
            f"--markdown {path}: the page has no place for the figures. Put these two lines where they "
            f"belong, or name a file that is not there yet:\n{BEGIN}\n{END}"
        )
    return text[: text.index(BEGIN)], text[text.index(END) + len(END) :]


def lines(report: Report, grids: Sequence[Grid]) -> Iterable[str]:
    """The machine, who took part, and a table for each section."""
    found = report.as_dict()
    yield "## The machine of this run"
    yield from (f"- {name}: {value}" for name, value in found["machine"].items())
    timing = "CPU time" if found["settings"]["time"] == "cpu" else "time of the clock"
    yield f"- threads measured: {found['settings']['threads']}, {timing}"
    if found["settings"]["size"] != "full":
        yield f"- a {found['settings']['size']} run: fewer cases, fewer rounds"
    if not found["complete"]:
        yield "- **not a whole run**: it was stopped, or some sections or peers were chosen"
    yield ""
    yield "## Who took part"
    yield "| name | what | version | left out |"
    yield "|---|---|---|---|"
    for name, peer in found["peers"].items():
        cells = (name, peer["title"], peer["version"] or "–", "; ".join(peer["notes"]) or "–")
        yield _row(cells)
    for grid in grids:
        yield from _table(grid)


def _table(grid: Grid) -> Iterable[str]:
    yield ""
    yield f"## {grid.title}"
    yield grid.note
    yield ""
    yield _row(grid.headings)
    yield "|" + "|".join("---:" if numeric else "---" for numeric in grid.numeric) + "|"
    yield from map(_row, grid.rows)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

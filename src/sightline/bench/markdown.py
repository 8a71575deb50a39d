"""The tables as Markdown, between two marks in a page whose rest is written by hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from sightline.bench.report import BenchReport
from sightline.bench.text_table import TextTable
from sightline.common.atomic import check_writable, write_atomically
from sightline.common.errors import CommandError

BEGIN = "<!-- sightline bench: begin (what stands between these marks is written by --markdown) -->"
END = "<!-- sightline bench: end -->"


def check_page(path: Path) -> None:
    """Raises before anything is measured if the page cannot be written.

    Raises:
        CommandError: for a place that cannot be written, or a page without the marks, which stays as it is.
    """
    check_writable(path)
    if path.exists():
        _around(path)


def write_page(path: Path, report: BenchReport, tables: Sequence[TextTable]) -> None:
    """Puts the run between the marks of ``path``; a page that does not exist is created, with marks."""
    before, after = _around(path) if path.exists() else ("# Benchmarks\n\n", "\n")
    write_atomically(path, [before, BEGIN, "\n", "\n".join(lines(report, tables)), "\n", END, after])


def _around(path: Path) -> tuple[str, str]:
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise CommandError(
            f"--markdown {path}: the page has no place for the figures. Put these two lines where they "
            f"belong, or name a file that does not exist yet:\n{BEGIN}\n{END}"
        )
    return text[: text.index(BEGIN)], text[text.index(END) + len(END) :]


def lines(report: BenchReport, tables: Sequence[TextTable]) -> Iterable[str]:
    """The machine, who took part, and a table for each section."""
    whole = report.as_dict()
    settings = whole["settings"]
    yield "## The machine of this run"
    yield from (f"- {name}: {value}" for name, value in whole["machine"].items())
    timing = "CPU time" if settings["time"] == "cpu" else "wall time"
    yield f"- threads measured: {settings['threads']}, {timing}"
    if settings["size"] != "full":
        yield f"- a {settings['size']} run: fewer cases, fewer rounds"
    if not whole["complete"]:
        yield "- **not a whole run**: it was stopped, or some sections or peers were chosen"
    yield ""
    yield "## Who took part"
    yield "| name | what | version | left out |"
    yield "|---|---|---|---|"
    for name, peer in whole["peers"].items():
        cells = (name, peer["title"], peer["version"] or "–", "; ".join(peer["notes"]) or "–")
        yield _row(cells)
    for table in tables:
        yield from _lines_of(table)


def _lines_of(table: TextTable) -> Iterable[str]:
    yield ""
    yield f"## {table.title}"
    yield table.note
    yield ""
    yield _row(table.headings)
    yield "|" + "|".join("---:" if numeric else "---" for numeric in table.numeric) + "|"
    yield from map(_row, table.rows)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

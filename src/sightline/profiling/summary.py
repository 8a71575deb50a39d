"""The summary in the terminal: how much was read, the extreme heads of each measure, and the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from sightline.measure.sources import CAVEAT
from sightline.profiling.row import ProfileRow
from sightline.profiling.statistics import STATISTICS
from sightline.profiling.table import Profile


class SummaryLine(NamedTuple):
    """A measure: its mean over all heads, and the heads with the smallest and the largest mean."""

    measure: str
    mean: str
    low: str
    high: str
    unit: str


def heading(profile: Profile) -> list[str]:
    """What was read."""
    info = profile.info
    if not info:
        return []
    title = f"{info['model']}: {info['documents']:,} documents, {info['tokens']:,} tokens"
    return [title, *map(str, info.get("notices", ()))]


def lines(profile: Profile) -> Iterator[SummaryLine]:
    """A line for each measure."""
    for name in profile.measures:
        rows = [row for row in profile.rows if row.measure == name and row.count]
        if not rows:
            yield SummaryLine(name, "absent", "", "", STATISTICS[name].unit)
            continue
        low, high = min(rows, key=lambda row: row.mean), max(rows, key=lambda row: row.mean)
        mean = sum(row.mean for row in rows) / len(rows)
        stacks = len(profile.stacks) > 1
        unit = STATISTICS[name].unit
        yield SummaryLine(name, f"{mean:.3g}", _head(low, stacks), _head(high, stacks), unit)


def labels(profile: Profile) -> str:
    """How many heads got each label."""
    heads = {(row.stack, row.layer, row.head): row.label for row in profile.rows if row.label}
    return ", ".join(f"{count} {label}" for label, count in Counter(heads.values()).most_common())


def _head(row: ProfileRow, stacks: bool) -> str:
    where = f"{row.stack} " if stacks else ""
    return f"{row.mean:.3g} ({where}layer {row.layer} head {row.head})"


def show(profile: Profile) -> None:
    """Prints the summary: a table for a person at a terminal, tab-separated lines for a pipe."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    counts = labels(profile)
    tail = ([f"heads: {counts}"] if counts else []) + [CAVEAT]
    if not console.is_terminal:
        print(*heading(profile), "\t".join(("measure", "mean", "smallest", "largest", "unit")), sep="\n")
        print(*("\t".join(line) for line in lines(profile)), *tail, sep="\n", flush=True)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("measure", "mean", "smallest", "largest", "unit"):
        table.add_column(name, justify="right" if name == "mean" else "left")
    for line in lines(profile):
        table.add_row(*line)
    for text in heading(profile):
        console.print(text, markup=False, style="bold" if text == heading(profile)[0] else "yellow")
    console.print(table)
    console.print(*tail[:-1], markup=False, sep="\n")
    console.print(tail[-1], markup=False, style="italic dim")

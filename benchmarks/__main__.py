"""Runs the benchmarks and prints tables; --json keeps the figures."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.table import Table

import sightline
from benchmarks import errors, forward, memory, readouts
from sightline.view.atomic import write_atomically

# In a pipe a table must not be squeezed to 80 columns.
console = Console(width=None if sys.stdout.isatty() else 132)


def show(title: str, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prints rows as a table, with a line on stderr as each one is done."""
    found = []
    progress = Console(stderr=True)
    with progress.status(f"{title} …") as status:
        for row in rows:
            found.append(row)
            status.update(f"{title}: {row['case']}")
    table = Table(title=title, title_justify="left")
    for name in found[0]:
        table.add_column(name, justify="left" if isinstance(found[0][name], str) else "right")
    for row in found:
        table.add_row(*(entry if isinstance(entry, str) else f"{entry:.3g}" for entry in row.values()))
    console.print(table)
    return found


def main(
    rounds: Annotated[int, typer.Option(help="At most so many rounds of each case.")] = 15,
    budget: Annotated[float, typer.Option(help="Seconds for each case.")] = 8.0,
    only: Annotated[str, typer.Option(help="One section: forward, readouts, errors or memory.")] = "",
    output: Annotated[Path | None, typer.Option("--json", help="Where to keep the figures.")] = None,
) -> None:
    """Attention and readouts against PyTorch: one thread, CPU time, ratios within one run."""
    torch.set_num_threads(1)
    sections: dict[str, tuple[str, Callable[[], Iterable[dict[str, Any]]]]] = {
        "forward": ("Forward, float32, one thread, CPU time", lambda: forward.rows(rounds, budget)),
        "readouts": ("Readouts, lse known, one thread, CPU time", lambda: readouts.rows(rounds, budget)),
        "errors": ("Errors against float64", errors.rows),
        "memory": ("Peak memory", memory.rows),
    }
    if only and only not in sections:
        raise typer.BadParameter(f"there is no section {only!r}; known: {', '.join(sections)}")
    report: dict[str, Any] = {"machine": sightline.info() | {"processor": _processor()}}
    for name, value in report["machine"].items():
        console.print(f"{name:14} {value}")
    for name, (title, rows) in sections.items():
        if only in ("", name):
            report[name] = show(title, rows())
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(output, [json.dumps(report, indent=1)])
        console.print(f"figures in {output}")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    typer.run(main)

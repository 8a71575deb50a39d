"""``sightline beside``: a task trained with Sightline and with ``torch.nn``, on the same data."""

from __future__ import annotations

import json as json_lines
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.tasks.options import (
    Columns,
    Encoding,
    Fold,
    Labels,
    Settings,
    SkipBad,
    Test,
    Valid,
    source_of,
)

if TYPE_CHECKING:
    from sightline.bench.beside.side import SideJob


def beside(
    task: Annotated[str, typer.Argument(help="As for sightline train.")],
    data: Annotated[Path, typer.Option(help="As for sightline train.")],
    valid: Valid = None,
    test: Test = None,
    columns: Columns = None,
    labels: Labels = None,
    fold: Fold = None,
    encoding: Encoding = "utf-8",
    skip_bad: SkipBad = False,
    set_: Settings = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each side, from the recipe's seed on.")] = 1,
    threads: Annotated[
        int, typer.Option(min=1, help="Of both. One is measured in CPU time, more in wall time.")
    ] = 1,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Only time this many steps of each, in turn, without training to the end."),
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all figures as JSON.")] = None,
) -> None:
    """Train a task's model with Sightline and with torch.nn: is it as good, and as fast, on your data?

    Both start from the same weights and see the same batches; each runs in a process of its own, in turn.
    Ctrl-C keeps the finished seeds.
    """
    from sightline.bench.beside.side import SIDES, SideJob
    from sightline.common.atomic import check_writable
    from sightline.tasks.registry import find_task

    recipe = find_task(task).recipe.changed(set_ or [])
    source = source_of(data, valid, test, columns, labels, fold, encoding, skip_bad)
    if json is not None:
        check_writable(json)
    job = SideJob(task, source, recipe, threads, SIDES[0], Path())
    if steps is None:
        _train(job, seeds, json)
    else:
        _time(job, steps, json)


def _train(job: SideJob, seeds: int, json: Path | None) -> None:
    """Trains both to the end."""
    from sightline.bench.beside.process import run_apart
    from sightline.bench.beside.side_by_side import SideBySide
    from sightline.bench.terminal import Terminal

    terminal = Terminal()

    def keep(comparison: SideBySide) -> None:
        if json is not None:
            _write(json, {"complete": len(comparison.runs) == seeds, **comparison.as_dict()})

    comparison = SideBySide(job.task, job.source, job.recipe, job.threads, run_apart, terminal.say, keep)
    stopped = False
    try:
        comparison.run(seeds)
    except KeyboardInterrupt:
        stopped = True
    if comparison.runs:
        terminal.table(comparison.table())
        if json is not None:
            terminal.say(f"wrote {json}")
    if stopped:
        terminal.say(f"sightline: stopped; {len(comparison.runs)} of {seeds} seeds were finished")
        raise SystemExit(130)


def _time(job: SideJob, steps: int, json: Path | None) -> None:
    """Times a few steps of both."""
    from sightline.bench.beside.pace import pace, pace_table
    from sightline.bench.terminal import Terminal

    terminal = Terminal()
    terminal.begin(job.task)
    figures = pace(job, steps, terminal.progress)
    terminal.table(pace_table(figures))
    if json is not None:
        _write(json, figures)
        terminal.say(f"wrote {json}")


def _write(path: Path, figures: dict[str, Any]) -> None:
    from sightline.bench.machine import describe_machine
    from sightline.common.atomic import write_atomically

    write_atomically(path, [json_lines.dumps({"machine": describe_machine(), **figures}, indent=2) + "\n"])

"""``sightline bench``: check the wishes, measure, show, write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from sightline.bench.grid import Grid, grid
from sightline.bench.markdown import check_page, write_page
from sightline.bench.peers import HIDDEN, PEERS, load_peer
from sightline.bench.plot import check_plot, write_plot
from sightline.bench.report import Report
from sightline.bench.sections import SECTIONS, load_section
from sightline.bench.session import OURS, Session, Settings
from sightline.bench.terminal import Terminal
from sightline.bench.timing import Budget
from sightline.common.atomic import check_writable
from sightline.common.errors import CommandError

_FULL = Budget(seconds=3.0)
_QUICK = Budget(seconds=0.4, most=15)


def bench(
    only: Annotated[
        list[str] | None, typer.Option(metavar="SECTION", help="Only this section; may be repeated.")
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="PEER", help="Only this peer; may be repeated."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer cases and rounds: some two minutes.")] = False,
    threads: Annotated[
        int, typer.Option(help="Threads for everyone. One is measured in CPU time, more by the clock.")
    ] = 1,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write all figures as JSON.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw shares of the peak, as .svg, .png or .pdf.")
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the tables into a page, between its marks.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List sections and peers, and stop.")] = False,
) -> None:
    """Measure attention against its peers, side by side in one run.

    Every peer's result is compared with float64 before it is timed. Contenders take turns, so that a slow
    spell of the machine hits all of them. Ctrl-C keeps what was measured. Peers that are not installed are
    left out: pip install "sightline[peers]".
    """
    if listing:
        return _list()
    sections, peers = _chosen("--only", only, SECTIONS), _chosen("--peer", peer, _attention_peers())
    _check(threads, json, plot, markdown, sections)
    terminal = Terminal()
    settings = Settings(
        size="quick" if quick else "full",
        threads=threads,
        budget=_QUICK if quick else _FULL,
        peers=tuple(name for name in peers if name != OURS),
    )
    with Session(settings, terminal.progress) as session:
        run(session, sections, terminal, json, plot, markdown, whole=not only and not peer)


def run(
    session: Session,
    sections: Sequence[str],
    terminal: Terminal,
    json: Path | None = None,
    plot: Path | None = None,
    markdown: Path | None = None,
    whole: bool = True,
) -> None:
    """Measures the sections, shows each when it is done, and writes the files, after Ctrl-C as well.

    Args:
        whole: whether finishing these sections makes a complete run.

    Raises:
        SystemExit: 130 after Ctrl-C, 1 if Sightline's own result was wrong or failed somewhere.
    """
    report, grids = Report(session), []
    terminal.facts(report.machine)
    stopped = False
    try:
        for name in sections:
            grids.append(_measured(name, session, report, terminal, json))
        report.complete = whole
    except _StoppedError as stop:
        stopped = True
        grids += [stop.grid] if stop.grid.rows else []
    for note in report.notes():
        terminal.line(note)
    _write(report, grids, terminal, json, plot, markdown)
    if stopped:
        kept = f"kept in {json}" if json is not None else "shown above"
        terminal.say(f"sightline: stopped; {report.count} finished rows are {kept}")
        raise SystemExit(130)
    own = [note for note in session.notes.get(OURS, {}) if note.startswith(("wrong", "failed"))]
    if own:
        raise CommandError(f"Sightline's own result: {own[0]}")


class _StoppedError(Exception):
    """Ctrl-C, with the table so far."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid


def _measured(name: str, session: Session, report: Report, terminal: Terminal, json: Path | None) -> Grid:
    section = load_section(name)
    terminal.begin(name)
    stopped, begin = False, time.perf_counter()
    try:
        for row in section.rows(session):
            report.add(section, row)
            terminal.done(" ".join(str(row[key]) for key in ("case", "dtype") if key in row))
    except KeyboardInterrupt:
        stopped = True
    report.took(section, time.perf_counter() - begin)
    found = grid(section, report.rows(name), session.peers)
    if found.rows:
        terminal.table(found)
    if stopped:
        raise _StoppedError(found)
    if json is not None:
        report.write(json)
    return found


def _write(
    report: Report,
    grids: Sequence[Grid],
    terminal: Terminal,
    json: Path | None,
    plot: Path | None,
    markdown: Path | None,
) -> None:
    if json is not None:
        report.write(json)
        terminal.say(f"wrote {json}")
    if plot is not None:
        drawn = write_plot(plot, report)
        terminal.say(f"wrote {plot}" if drawn else f"{plot}: no case was finished that could be drawn")
    if markdown is not None:
        write_page(markdown, report, [found for found in grids if found.rows])
        terminal.say(f"wrote {markdown}")


def _attention_peers() -> list[str]:
    return [name for name in PEERS if name not in HIDDEN]


def _chosen(option: str, wished: Sequence[str] | None, known: Sequence[str] | dict[str, str]) -> list[str]:
    """Those that are wished for, in the order they are known by; all of them if nothing is."""
    for name in wished or ():
        if name not in known:
            raise CommandError(f"{option} {name}: there is no such one; known: {', '.join(known)}")
    return [name for name in known if not wished or name in wished]


def _check(
    threads: int, json: Path | None, plot: Path | None, markdown: Path | None, sections: Sequence[str]
) -> None:
    """What can be told before anything is measured."""
    if threads < 1:
        raise CommandError(f"--threads {threads}: at least 1")
    paths = [path for path in (json, plot, markdown) if path is not None]
    for path in paths:
        if paths.count(path) > 1:
            raise CommandError(f"two files are to be written to {path}")
    if json is not None:
        check_writable(json)
    if plot is not None:
        check_plot(plot, sections)
    if markdown is not None:
        check_page(markdown)


def _list() -> None:
    print("sections (--only):")
    for name in SECTIONS:
        print(f"  {name:<14} {load_section(name).title}")
    print("peers (--peer):")
    for name in _attention_peers():
        peer = load_peer(name)
        print(f"  {name:<14} {peer.title}: {peer.missing() or peer.version()}")

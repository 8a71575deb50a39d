"""``sightline bench``: check the options, measure, show, write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sightline.bench.markdown import check_page, write_page
from sightline.bench.peers import HIDDEN, PEERS, load_peer
from sightline.bench.plot import check_plot, write_plot
from sightline.bench.report import BenchReport
from sightline.bench.sections import ON_DEVICE, SECTIONS, load_section
from sightline.bench.session import OURS, BenchSettings, Session
from sightline.bench.terminal import Terminal
from sightline.bench.text_table import TextTable, section_table
from sightline.bench.timing import Budget
from sightline.commands.device_option import chosen_device
from sightline.common.atomic import check_writable
from sightline.common.errors import CommandError

if TYPE_CHECKING:
    import torch

_FULL = Budget(seconds=3.0)
_QUICK = Budget(seconds=0.4, most=15)


def bench(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SECTION", help=f"Only this section; may be repeated: {', '.join(SECTIONS | ON_DEVICE)}."
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(metavar="PEER", help="Only this peer; may be repeated."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer cases and rounds: some minutes.")] = False,
    device: Annotated[
        str,
        typer.Option(help="Where: cpu, or cuda for other sections, beside the vendors' kernels for GPUs."),
    ] = "cpu",
    threads: Annotated[
        int, typer.Option(help="Threads for everyone. One is measured in CPU time, more in wall time.")
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
    """Measure attention, layers and models against their peers, side by side in one run.

    Every peer's result is compared with float64 before it is timed. Contenders take turns, so that a slow
    spell of the machine affects all of them. Ctrl-C keeps what was measured. Peers that are not installed are
    left out: pip install "sightline[peers]".
    """
    if listing:
        return _list()
    where = _device(device)
    sections = _sections(only, where.type)
    peers = _chosen("--peer", peer, _attention_peers())
    if all(name in ON_DEVICE for name in sections):
        peers = []  # those sections bring their own
    if threads < 1:
        raise CommandError(f"--threads {threads}: at least 1")
    files = OutputFiles(json, plot, markdown)
    files.check(sections)
    terminal = Terminal()
    settings = BenchSettings(
        size="quick" if quick else "full",
        threads=threads,
        budget=_QUICK if quick else _FULL,
        peers=tuple(name for name in peers if name != OURS),
        device=where,
    )
    with Session(settings, terminal.progress) as session:
        run(session, sections, terminal, files, whole=not only and not peer)


@dataclass(frozen=True)
class OutputFiles:
    """Where to write a run, as JSON, as a picture and into a page."""

    json: Path | None = None
    plot: Path | None = None
    markdown: Path | None = None

    def check(self, sections: Sequence[str]) -> None:
        """Raises before anything is measured if one of them cannot be written."""
        paths = [path for path in (self.json, self.plot, self.markdown) if path is not None]
        for path in paths:
            if paths.count(path) > 1:
                raise CommandError(f"two files are to be written to {path}")
        if self.json is not None:
            check_writable(self.json)
        if self.plot is not None:
            check_plot(self.plot, sections)
        if self.markdown is not None:
            check_page(self.markdown)

    def write(self, report: BenchReport, tables: Sequence[TextTable], terminal: Terminal) -> None:
        """Writes them all, and says so."""
        if self.json is not None:
            report.write(self.json)
            terminal.say(f"wrote {self.json}")
        if self.plot is not None:
            drawn = write_plot(self.plot, report)
            nothing = f"{self.plot}: no case was finished that could be drawn"
            terminal.say(f"wrote {self.plot}" if drawn else nothing)
        if self.markdown is not None:
            write_page(self.markdown, report, [table for table in tables if table.rows])
            terminal.say(f"wrote {self.markdown}")


def run(
    session: Session, sections: Sequence[str], terminal: Terminal, files: OutputFiles, whole: bool = True
) -> None:
    """Measures the sections, shows each when it is done, and writes the files, even after Ctrl-C.

    Args:
        whole: whether these sections make a complete run.

    Raises:
        SystemExit: 130, after Ctrl-C.
        CommandError: if Sightline's own result was wrong or failed somewhere.
    """
    report, tables = BenchReport(session), list[TextTable]()
    terminal.facts(report.machine)
    stopped = False
    for name in sections:
        table, stopped = _measured(name, session, report, terminal)
        tables.append(table)
        if stopped:
            break
        if files.json is not None:
            report.write(files.json)
    report.complete = whole and not stopped
    for note in report.notes():
        terminal.line(note)
    files.write(report, tables, terminal)
    if stopped:
        kept = f"kept in {files.json}" if files.json is not None else "shown above"
        terminal.say(f"sightline: stopped; {report.count} finished rows are {kept}")
        raise SystemExit(130)
    own = [note for note in session.notes.get(OURS, {}) if note.startswith(("wrong", "failed"))]
    if own:
        raise CommandError(f"Sightline's own result: {own[0]}")


def _measured(name: str, session: Session, report: BenchReport, terminal: Terminal) -> tuple[TextTable, bool]:
    """A section's table, which is shown, and whether Ctrl-C stopped it."""
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
    table = section_table(section, report.rows(name), session.peers)
    if table.rows:
        terminal.table(table)
    return table, stopped


def _attention_peers() -> list[str]:
    return [name for name in PEERS if name not in HIDDEN]


def _chosen(option: str, wished: Sequence[str] | None, known: Sequence[str] | dict[str, str]) -> list[str]:
    """The requested names in their usual order; all of them if none is requested."""
    for name in wished or ():
        if name not in known:
            raise CommandError(f"{option} {name}: there is no such one; known: {', '.join(known)}")
    return [name for name in known if not wished or name in wished]


def _device(word: str) -> torch.device:
    """Where to measure; a GPU is made the current one, on which its clock runs."""
    import torch

    where = chosen_device(word)
    if where.type not in ("cpu", "cuda"):
        raise CommandError(f"--device {word}: nothing is measured there; known are cpu and cuda")
    if where.type == "cuda":
        torch.cuda.set_device(where)
    return where


def _sections(only: Sequence[str] | None, kind: str) -> list[str]:
    """Those that were asked for, or all that are made for a kind of device."""
    usual = SECTIONS if kind == "cpu" else ON_DEVICE
    chosen = _chosen("--only", only, SECTIONS | ON_DEVICE) if only else list(usual)
    others = [name for name in chosen if name not in ON_DEVICE]
    if kind != "cpu" and others:
        raise CommandError(
            f"--only {others[0]}: it measures the CPU; leave --device out, or take {', '.join(ON_DEVICE)}"
        )
    return chosen


def _list() -> None:
    print("sections (--only); those named gpu- run with --device cuda:")
    for name in SECTIONS | ON_DEVICE:
        print(f"  {name:<14} {load_section(name).title}")
    print("peers (--peer):")
    for name in _attention_peers():
        peer = load_peer(name)
        print(f"  {name:<14} {peer.title}: {peer.missing() or peer.version()}")

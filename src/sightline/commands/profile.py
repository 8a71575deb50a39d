"""``sightline profile``: check the wishes, measure, write, show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.common.atomic import check_writable
from sightline.common.errors import CommandError

if TYPE_CHECKING:
    from sightline.profiling.corpus import Corpus
    from sightline.profiling.job import Job, Progress
    from sightline.profiling.shards import Shards

_DTYPES = ("float32", "bfloat16", "float16")


def _list(wanted: bool) -> None:
    """Prints every measure with its formula and unit; those marked * are measured if nobody chooses."""
    if wanted:
        from sightline.profiling.statistics import STATISTICS

        for one in STATISTICS.values():
            print(f"{'*' if one.standard else ' '} {one.name:<20} {one.formula}, in {one.unit}")
        raise typer.Exit


def profile(
    model: Annotated[
        str, typer.Argument(help="Hugging Face name, local folder, or default: all-MiniLM-L6-v2.")
    ],
    corpus: Annotated[
        Path,
        typer.Argument(
            help="A text file (a document a line), .jsonl, .csv or .tsv, also with .gz; or a folder of texts."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The table: .parquet or .csv.")
    ],
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw layers by heads, as .png, .svg or .pdf.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="How a text file is cut: line, blank (at blank lines), file (not at all)."),
    ] = None,
    field: Annotated[
        str | None, typer.Option(metavar="NAME", help="Key or column of the text. Default: text.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="NAME", help="That of the text which a decoder reads.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Read so many documents at most.")] = None,
    max_tokens: Annotated[
        int | None, typer.Option(help="Cut longer documents. Default: what the model takes.")
    ] = None,
    windows: Annotated[
        bool, typer.Option("--windows", help="Take what is cut off as further documents.")
    ] = False,
    measure: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this measure; may be repeated.")
    ] = None,
    measures: Annotated[
        bool, typer.Option("--measures", is_eager=True, callback=_list, help="List the measures, and stop.")
    ] = False,
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only layers of this number, name or glob; may be repeated."),
    ] = None,
    labels: Annotated[
        bool | None,
        typer.Option(
            "--labels/--no-labels", help="Say what each head does. Default: unless --measure chooses."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(help="Documents of like length that run together at most.")] = 16,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    threads: Annotated[int | None, typer.Option(help="Threads of this process.")] = None,
    resume: Annotated[
        bool | None,
        typer.Option("--resume/--restart", help="Go on from FILE.partial, or begin anew. Default: go on."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Pass over documents that cannot be read.")
    ] = False,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Measure attention that could not be verified, too.")
    ] = False,
) -> None:
    """Head statistics of MODEL over thousands of documents; what is kept does not grow with them.

    Ctrl-C saves what was done in FILE.partial; the same command goes on from there, to the same result. On
    several processes or machines: torchrun --nproc-per-node 2 -m sightline profile MODEL CORPUS -o FILE.
    Each document counts once. Needs pip install "sightline[profile]" for .parquet and plots.
    """
    _check(output, plot, dtype, threads, batch, limit, max_tokens)
    from sightline.profiling.corpus import Corpus
    from sightline.profiling.shards import Shards

    documents = Corpus(corpus, split, field, target, skip_bad)
    shards = Shards.joined()
    with _told_by(shards):
        job = _job(
            model, documents, shards, threads,
            measures=measure, layers=_layers(layer), max_tokens=max_tokens, windows=windows, batch=batch,
            limit=limit, unverified=unverified, labels=labels, dtype=dtype,
        )  # fmt: skip
        _run(job, documents, shards, output, plot, resume)


def _job(model: str, documents: Corpus, shards: Shards, threads: int | None, **options: Any) -> Job:
    import torch

    from sightline.common.pretrained import quiet
    from sightline.profiling.job import Job

    if threads is not None:
        torch.set_num_threads(threads)
    with quiet():
        return Job(model, documents, shards=shards, **options)


def _run(
    job: Job, documents: Corpus, shards: Shards, output: Path, plot: Path | None, resume: bool | None
) -> None:
    from sightline.profiling.signals import Interrupted
    from sightline.profiling.summary import show

    checkpoint = output.with_name(f"{output.name}.partial")
    try:
        with _progress(documents, shards) as progress:
            found = job.run(checkpoint, resume, progress)
    except Interrupted:
        _say(f"stopped; {checkpoint.name} has what was done: the same command goes on from there")
        raise SystemExit(130) from None
    if shards.rank == 0:
        found.save(output)
        if plot is not None:
            found.plot(plot)
    job.done()
    if shards.rank == 0:
        show(found)
        for path in (output, plot):
            if path is not None:
                print(f"wrote {path}", file=sys.stderr)


def _check(
    output: Path,
    plot: Path | None,
    dtype: str,
    threads: int | None,
    batch: int,
    limit: int | None,
    max_tokens: int | None,
) -> None:
    """What can be told before anything is read."""
    from sightline.profiling.plot import check_plot
    from sightline.profiling.table import check_suffix

    for name, value in (("threads", threads), ("batch", batch), ("limit", limit), ("max-tokens", max_tokens)):
        if value is not None and value < 1:
            raise CommandError(f"--{name} {value}: at least 1")
    if dtype not in _DTYPES:
        raise CommandError(f"--dtype {dtype}: must be one of {', '.join(_DTYPES)}")
    check_suffix(output)
    check_writable(output)
    if plot is not None:
        check_plot(plot)


def _layers(given: list[str] | None) -> list[str | int] | None:
    return [int(one) if one.isdecimal() else one for one in given] if given else None


@contextmanager
def _told_by(shards: Shards) -> Iterator[None]:
    """Says in an error which of several processes it was."""
    try:
        yield
    except CommandError as error:
        if shards.world == 1:
            raise
        raise CommandError(f"process {shards.rank + 1} of {shards.world}: {error}") from error


def _say(text: str) -> None:
    print(f"sightline: {text}", file=sys.stderr, flush=True)


@contextmanager
def _progress(documents: Corpus, shards: Shards) -> Iterator[Callable[[Progress], None] | None]:
    """A bar on stderr for a person at a terminal; it moves with the bytes of the corpus that were read."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal or shards.rank:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Reading", total=1.0)
        share = "" if shards.world == 1 else f" (1 of {shards.world} shares)"

        def progress(found: Progress) -> None:
            text = f"{found.documents:,} documents, {found.tokens:,} tokens{share}"
            bar.update(task, description=text, completed=documents.done)

        yield progress

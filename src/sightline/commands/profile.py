"""``sightline profile``: check the options, measure, write, show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.commands import profile_options as options
from sightline.commands.device_option import chosen_device
from sightline.common.atomic import check_writable
from sightline.common.errors import CommandError

if TYPE_CHECKING:
    from sightline.profiling.corpus import Corpus
    from sightline.profiling.job import ProfileJob
    from sightline.profiling.options import ProfileOptions
    from sightline.profiling.run import ProfileProgress
    from sightline.profiling.shards import Shards


def profile(
    model: options.Model,
    corpus: options.CorpusPath,
    output: options.Output,
    plot: options.Plot = None,
    split: options.Split = None,
    field: options.Field = None,
    target: options.Target = None,
    limit: options.Limit = None,
    max_tokens: options.MaxTokens = None,
    windows: options.Windows = False,
    measures: options.Measures = None,
    list_measures: options.ListMeasures = False,
    layers: options.Layers = None,
    labels: options.Labels = None,
    batch: options.Batch = 16,
    dtype: options.Dtype = "float32",
    threads: options.Threads = None,
    resume: options.Resume = None,
    skip_bad: options.SkipBad = False,
    unverified: options.Unverified = False,
    device: options.Device = "auto",
) -> None:
    """Head statistics of MODEL over thousands of documents, in memory that does not grow with them.

    Ctrl-C saves what was done in FILE.partial; the same command continues from there, to the same result. On
    several processes or machines: torchrun --nproc-per-node 2 -m sightline profile MODEL CORPUS -o FILE.
    Each document counts once. .parquet and plots need pip install "sightline[profile]".
    """
    _check_numbers(threads=threads, batch=batch, limit=limit, max_tokens=max_tokens)
    _check_files(output, plot, dtype)
    from sightline.profiling.corpus import Corpus
    from sightline.profiling.options import ProfileOptions
    from sightline.profiling.shards import Shards

    documents = Corpus(corpus, split, field, target, skip_bad)
    shards = Shards.joined()
    with _process_named_in_errors(shards):
        chosen = ProfileOptions(
            measures, _layers(layers), max_tokens, windows, batch, limit, unverified, labels
        )
        job = _job(model, documents, chosen, shards, dtype, threads, device)
        _run(job, documents, shards, output, plot, resume)


def _job(
    model: str, documents: Corpus, chosen: ProfileOptions, shards: Shards, dtype: str, threads: int | None,
    device: str,
) -> ProfileJob:  # fmt: skip
    import torch

    from sightline.common.pretrained import quiet
    from sightline.profiling.job import ProfileJob
    from sightline.profiling.loading import load_profiled_model

    if threads is not None:
        torch.set_num_threads(threads)
    with quiet():
        where = chosen_device(device)
        return ProfileJob(load_profiled_model(model, dtype=dtype, device=where), documents, chosen, shards)


def _run(
    job: ProfileJob, documents: Corpus, shards: Shards, output: Path, plot: Path | None, resume: bool | None
) -> None:
    from sightline.profiling.signals import Interrupted
    from sightline.profiling.summary import show

    checkpoint = output.with_name(f"{output.name}.partial")
    try:
        with _progress(documents, shards) as progress:
            heads = job.run(checkpoint, resume, progress)
    except Interrupted:
        _say(f"stopped; {checkpoint.name} has what was done: the same command continues from there")
        raise SystemExit(130) from None
    if shards.rank == 0:
        heads.save(output)
        if plot is not None:
            heads.plot(plot)
    job.done()
    if shards.rank == 0:
        show(heads)
        for path in (output, plot):
            if path is not None:
                print(f"wrote {path}", file=sys.stderr)


def _check_numbers(**numbers: int | None) -> None:
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise CommandError(f"--{name.replace('_', '-')} {value}: at least 1")


def _check_files(output: Path, plot: Path | None, dtype: str) -> None:
    """Finds mistakes before anything is read."""
    from sightline.profiling.loading import DTYPES
    from sightline.profiling.plot import check_plot
    from sightline.profiling.profile_file import check_suffix

    if dtype not in DTYPES:
        raise CommandError(f"--dtype {dtype}: must be one of {', '.join(DTYPES)}")
    check_suffix(output)
    check_writable(output)
    if plot is not None:
        check_plot(plot)


def _layers(names: list[str] | None) -> list[str | int] | None:
    return [int(name) if name.isdecimal() else name for name in names] if names else None


@contextmanager
def _process_named_in_errors(shards: Shards) -> Iterator[None]:
    """Says in an error which of several processes it comes from."""
    try:
        yield
    except CommandError as error:
        if shards.world == 1:
            raise
        raise CommandError(f"process {shards.rank + 1} of {shards.world}: {error}") from error


def _say(text: str) -> None:
    print(f"sightline: {text}", file=sys.stderr, flush=True)


@contextmanager
def _progress(documents: Corpus, shards: Shards) -> Iterator[Callable[[ProfileProgress], None] | None]:
    """A bar on stderr for a person at a terminal; it advances with the bytes of the corpus that were read."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal or shards.rank:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Reading", total=1.0)
        share = "" if shards.world == 1 else f" (1 of {shards.world} shares)"

        def advance(progress: ProfileProgress) -> None:
            text = f"{progress.documents:,} documents, {progress.tokens:,} tokens{share}"
            bar.update(task, description=text, completed=documents.done)

        yield advance

"""``sightline train`` and ``sightline run``."""

from __future__ import annotations

import json as json_lines
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sightline.commands.device_option import Device, chosen_device
from sightline.tasks.options import (
    Columns,
    Encoding,
    Fold,
    Labels,
    Settings,
    SkipBad,
    StartWith,
    Test,
    Valid,
    source_of,
)

if TYPE_CHECKING:
    from sightline.tasks.pipelines import Pipeline
    from sightline.tasks.processes import Processes


def train(
    task: Annotated[
        str,
        typer.Argument(
            help="sentiment, translation, summarization, generation, image-classification, "
            "speech-recognition."
        ),
    ],
    data: Annotated[
        Path, typer.Option(help="A table, a text file, or a folder: docs/tasks.md says which for which task.")
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the model goes; a run goes on there.")],
    valid: Valid = None,
    test: Test = None,
    columns: Columns = None,
    labels: Labels = None,
    fold: Fold = None,
    encoding: Encoding = "utf-8",
    skip_bad: SkipBad = False,
    set_: Settings = None,
    start: StartWith = None,
    licence: Annotated[str | None, typer.Option(help="Of the data; for the model card.")] = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Of each process. Default: the cores, shared among processes."),
    ] = None,
    device: Device = "auto",
    finish: Annotated[
        bool, typer.Option("--finish", help="Train no more: take the best epoch of the run in --out.")
    ] = False,
) -> None:
    """Train a small Transformer on your own data. Ctrl-C saves; the same command goes on.

    Started by torchrun -m sightline train ..., several processes train one model.
    """
    from sightline.products import keep_freed_memory
    from sightline.tasks.fitting import fit
    from sightline.tasks.memory import keep_few_products
    from sightline.tasks.processes import joined
    from sightline.tasks.progress import ProgressDisplay
    from sightline.tasks.registry import find_task
    from sightline.tasks.start_with import start_with

    keep_freed_memory()
    keep_few_products()
    where = chosen_device(device)
    with joined(where) as processes, _one_voice(processes, out), _computing(threads or processes.threads()):
        with processes.together():
            kind = find_task(task)
            begun = None if start is None else start_with(start)
            recipe = kind.recipe if begun is None else begun.recipe(kind.recipe)
            recipe = recipe.changed(set_ or [])
            source = source_of(data, valid, test, columns, labels, fold, encoding, skip_bad)
        with ProgressDisplay(recipe.epochs, kind.metric, quiet=processes.rank > 0) as shown:
            figures = fit(
                task, source, out, recipe, shown, licence, processes, begun, processes.device, finish
            )
        if processes.rank == 0:
            _print_figures(figures)


def _print_figures(figures: dict[str, dict[str, float]]) -> None:
    for part, each in figures.items():
        print(f"{part}: " + ", ".join(f"{name} {value:.4f}" for name, value in each.items()))


def run(
    model: Annotated[str, typer.Argument(help="A task, or the folder of a model that sightline train made.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...", help="Texts, text files (a text a line), or -; images, recordings, folders."
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="A JSON object for each input.")] = False,
    new_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens that are written at most.")] = None,
    temperature: Annotated[
        float, typer.Option(min=0, help="Of generation. 0: the likeliest; above: drawn.")
    ] = 0.8,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Read only the beginning of a source that is too long.")
    ] = False,
    look: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the page of what was attended to.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Answer with a trained model."""
    import torch

    from sightline.tasks.pipelines import open_pipeline
    from sightline.tasks.progress import passing

    pipe = open_pipeline(model, chosen_device(device))
    options: dict[str, Any] = {} if new_tokens is None else {"new_tokens": new_tokens}
    if truncate:
        options["truncation"] = True
    if temperature and pipe.task.name == "generation":
        options |= {"temperature": temperature, "generator": torch.Generator(pipe.device).manual_seed(seed)}
    given = [one for argument in inputs for one in pipe.task.inputs(argument)]
    _warn_of_unknown(pipe, given)
    answers = passing(pipe.stream(given, **options), len(given))
    for one, answer in zip(given, answers, strict=True):
        print(_json_line(one, answer) if json else _line(one, answer), flush=True)
    if look is not None:
        _write_page(pipe, given[0], look)


def _warn_of_unknown(pipe: Pipeline, given: list[Any]) -> None:
    """A model answers any text, and what it says of one that it cannot read means nothing."""
    from sightline.tasks.looking import unknown_in

    if pipe.task.tokenized and (notice := unknown_in(pipe.task.tokenizer, given)):
        print(f"sightline: {notice}", file=sys.stderr)


def _write_page(pipe: Pipeline, given: Any, path: Path) -> None:
    """The page of what the model attended to in one input."""
    from sightline.common.atomic import write_atomically
    from sightline.tasks.looking import reading_of_seen
    from sightline.tasks.task import LookOptions
    from sightline.view.page_size import check_page_size
    from sightline.view.report import report_parts
    from sightline.view.summary import Selection, summarize

    seen = pipe.task.look(pipe.model, given, pipe.recipe, LookOptions())
    check_page_size([call.matrix for call in seen.trace])
    vocabulary = pipe.task.tokenizer.get_vocab() if pipe.task.tokenized else None
    reading = reading_of_seen(seen, pipe.name, vocabulary, pipe.task.labels)
    size = write_atomically(path, report_parts(summarize(reading, Selection())))
    print(f"wrote {path} ({size / 1e6:.1f} MB)", file=sys.stderr)


def _line(given: Any, answer: Any) -> str:
    """The best answer, on a line."""
    best = answer[0] if isinstance(answer, list) else answer
    return (
        f"{best['label']}\t{best['score']:.4f}\t{given}"
        if "label" in best
        else str(next(iter(best.values())))
    )


def _json_line(given: Any, answer: Any) -> str:
    fields = {"answers": answer} if isinstance(answer, list) else answer
    return json_lines.dumps({"input": str(given), **fields}, ensure_ascii=False)


@contextmanager
def _one_voice(processes: Processes, out: Path) -> Iterator[None]:
    """One process reports why a run ended and sets the exit code, at which torchrun ends all others."""
    from sightline.tasks.processes import ElsewhereError

    try:
        yield
    except ElsewhereError:
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        if processes.rank > 0:
            raise SystemExit(0) from None
        print(f"sightline: stopped; the same command goes on from {out}", file=sys.stderr)
        raise


@contextmanager
def _computing(threads: int | None) -> Iterator[None]:
    """Sets the number of PyTorch's threads for a block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)

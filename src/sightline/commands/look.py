"""``sightline look``: what a model attends to in a text, in the terminal, as JSON, or as a page."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from sightline.commands.device_option import Device, chosen_device
from sightline.common.atomic import check_writable, write_atomically
from sightline.reading.errors import InputError
from sightline.reading.source import read_source


def look(
    text: Annotated[str, typer.Argument(help="A text, a text file, or - for standard input.")],
    pair: Annotated[
        str | None,
        typer.Argument(metavar="[TEXT2]", help="A second text: a pair, or the target of a translation."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Folder, task, or Hugging Face name. Default: translation (English to German)."),
    ] = None,
    section: Annotated[
        str | None, typer.Option(help="encoder, decoder or cross, where the model has them.")
    ] = None,
    layer: Annotated[
        int | None, typer.Option(help="Layer, from 0. Default: the most selective head's.")
    ] = None,
    head: Annotated[int | None, typer.Option(help="Head, from 0. Default: the most selective.")] = None,
    query: Annotated[
        str | None, typer.Option(metavar="WORD", help="The word that looks, or a place: #3.")
    ] = None,
    top: Annotated[int, typer.Option(help="How many keys and pairs to show.")] = 8,
    words: Annotated[bool, typer.Option("--words", help="Merge subwords into words.")] = False,
    special: Annotated[bool, typer.Option("--special", help="Include special tokens such as [CLS].")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a self-contained page.")] = None,
    live: Annotated[
        bool, typer.Option("--live", help="With --html: the page carries the model, and runs what is typed.")
    ] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the numbers as JSON.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Use at most this many tokens of the text.")] = None,
    device: Device = "auto",
) -> None:
    """Show what a model attends to in TEXT."""
    _check(text, pair, top, max_tokens, html, json)
    if live and html is None:
        raise InputError("--live is for a page: name one with --html")
    first = read_source(text)
    second = None if pair is None else read_source(pair)
    with _progress("Loading") as step:
        from sightline.commands.opening import DEFAULT, open_model, open_runnable
        from sightline.view.json_export import json_parts
        from sightline.view.report import report_parts
        from sightline.view.summary import Selection, summarize

        where = chosen_device(device)
        step(f"Loading {model or 'the default model'}")
        more: Iterable[str] = ()
        if live:
            runs = open_runnable(model or DEFAULT, where)
            more = _live_parts(runs)
            step("Running the model")
            reading = runs.read(first, second, max_tokens)
        else:
            loaded = open_model(model, device=where)
            step("Running the model")
            reading = loaded.read(first, second, max_tokens)
        step("Reading the attention matrices")
        summary = summarize(reading, Selection(section, layer, head, query, top, words, special))
        written = []
        if json is not None:
            step(f"Writing {json}")
            written.append((json, write_atomically(json, json_parts(summary))))
        if html is not None:
            step(f"Writing {html}")
            written.append((html, write_atomically(html, report_parts(summary, more=more))))
    _show(summary)
    _warn(summary)
    for path, size in written:
        print(f"wrote {path} ({size / 1e6:.1f} MB)", file=sys.stderr)


def _live_parts(runs: Any) -> Iterable[str]:
    """What a page carries to run the model."""
    from sightline.view.live import live_parts

    return live_parts(runs.runnable())


def _check(
    text: str, pair: str | None, top: int, max_tokens: int | None, html: Path | None, json: Path | None
) -> None:
    """What can be told before anything is loaded."""
    if top < 1:
        raise InputError(f"--top {top}: at least 1")
    if max_tokens is not None and max_tokens < 1:
        raise InputError(f"--max-tokens {max_tokens}: at least 1")
    if text == "-" and pair == "-":
        raise InputError("standard input can be one of the two texts, not both")
    if html is not None and html == json:
        raise InputError(f"--html and --json both name {html}")
    for path in (html, json):
        if path is not None:
            check_writable(path)


def _show(summary: Any) -> None:
    """Colours for a person at a terminal, plain lines for a pipe."""
    from rich.console import Console

    # No soft wrapping in a pipe, whatever the width of the terminal was.
    console = Console(highlight=False)
    if console.is_terminal:
        from sightline.view.terminal import render

        colours = console.color_system in ("256", "truecolor")
        console.print(render(summary, console.width, colours))
    else:
        from sightline.view.plain import plain_lines

        sys.stdout.write("\n".join(plain_lines(summary)) + "\n")
        sys.stdout.flush()


def _warn(summary: Any) -> None:
    """Of a text that the model does not know, where what is shown goes to a file or another program."""
    from sightline.reading.unknown import UNKNOWN

    if not sys.stdout.isatty():
        for notice in summary.reading.notices:
            if notice.startswith(UNKNOWN):
                print(f"sightline: {notice}", file=sys.stderr)


@contextmanager
def _progress(first: str) -> Iterator[Any]:
    """A moving line on stderr for a person; nothing at all in a pipe."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda line: None
        return
    with console.status(first) as status:
        yield status.update

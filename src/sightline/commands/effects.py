"""``sightline effects``: what each word, head or layer does to a model's answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sightline.commands.device_option import Device, chosen_device
from sightline.common.atomic import check_writable
from sightline.common.errors import CommandError
from sightline.reading.source import read_source

OF = ("tokens", "heads", "layers")


def effects(
    model: Annotated[str, typer.Argument(help="Folder, task (sentiment), or Hugging Face name.")],
    text: Annotated[str, typer.Argument(help="A text, a text file, or - for standard input.")],
    of: Annotated[str, typer.Option(help="What is removed: tokens, heads or layers.")] = "tokens",
    target: Annotated[
        str | None,
        typer.Option(help="Another answer than the model's own: a label, the next token, a translation."),
    ] = None,
    how: Annotated[str, typer.Option(help="What a removed head gives: zero, mean or uniform.")] = "zero",
    top: Annotated[int, typer.Option(help="How many to show.")] = 10,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the numbers as JSON; a run goes on there.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw them: .png, .svg or .pdf.")] = None,
    device: Device = "auto",
) -> None:
    """Show what each token, head or layer does to MODEL's answer to TEXT, by removing it."""
    _check(of, top, json, plot)
    from sightline.commands.opening import open_asked
    from sightline.removing import effects as ask

    question = open_asked(model, chosen_device(device)).question(read_source(text), target)
    for notice in question.notices:
        print(f"sightline: {notice}", file=sys.stderr)
    try:
        found = ask(
            question.model, question.inputs, question.metric, of, how=how, path=json,
            tokens=question.tokens, about=question.about,
        )  # fmt: skip
    except ValueError as error:
        raise CommandError(str(error)) from None
    print(found.table(top))
    if plot is not None:
        found.plot(plot)
    for path in (json, plot):
        if path is not None:
            print(f"wrote {path}", file=sys.stderr)
    if not found.complete:
        raise KeyboardInterrupt


def _check(of: str, top: int, json: Path | None, plot: Path | None) -> None:
    """What can be told before anything is loaded."""
    if of not in OF:
        raise CommandError(f"--of {of}: must be one of {', '.join(OF)}")
    if top < 1:
        raise CommandError(f"--top {top}: at least 1")
    if json is not None:
        check_writable(json)
    if plot is not None:
        from sightline.removing.picture import check_picture

        check_picture(plot)

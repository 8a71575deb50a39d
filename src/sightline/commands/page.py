"""``sightline page``: a page in one file that runs a model, over whatever is typed into it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sightline.common.atomic import check_writable
from sightline.reading.source import read_source


def page(
    model: Annotated[
        str,
        typer.Argument(
            metavar="TASK|FOLDER",
            help="A task whose model comes with Sightline (translation), or the folder of a model.",
        ),
    ],
    text: Annotated[
        str | None,
        typer.Argument(help="What the page opens with: a text, a text file, or - for standard input."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The page to write.")] = Path(
        "page.html"
    ),
) -> None:
    """Write a page that runs a model: type a sentence, and see what it makes of it.

    The page carries the weights, up to 40 MB of them, and needs neither a server nor a network.
    """
    check_writable(output)
    given = None if text is None else read_source(text)
    from sightline.commands.opening import open_runnable
    from sightline.reading.output import WROTE
    from sightline.view.live import write_page

    opened = open_runnable(model)
    runnable = opened.runnable()
    reading = opened.read(runnable.example if given is None else given)
    for notice in reading.notices:
        if not notice.startswith(WROTE):
            print(f"sightline: {notice}", file=sys.stderr)
    size = write_page(reading, runnable, output)
    print(f"wrote {output} ({size / 1e6:.1f} MB)", file=sys.stderr)

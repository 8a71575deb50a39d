"""The options of ``sightline serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.commands.device_option import Device as _Device

Traces = Annotated[
    list[Path] | None, typer.Argument(metavar="[TRACE]...", help="Saved traces: trace.save(FILE).")
]
Model = Annotated[
    str | None, typer.Option(help="As for look: it reads --text, and what is typed in the page.")
]
Text = Annotated[
    str | None, typer.Option(help="A text, a text file, or - for standard input: what to read first.")
]
Pair = Annotated[str | None, typer.Option(help="A second text: a pair, or the target of a translation.")]
MaxTokens = Annotated[int | None, typer.Option(help="Use at most this many tokens of a text.")]
Offload = Annotated[
    str | None, typer.Option(metavar="disk", help="Keep what --text gives in memory-mapped files.")
]
Device = _Device
Batch = Annotated[int, typer.Option(help="Which batch entry of saved traces to show.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(help="Port; 0 takes any that is free.")]
Open = Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")]
Cache = Annotated[int, typer.Option(help="Megabytes of computed tiles to keep.")]
MaxUpload = Annotated[int, typer.Option(help="Megabytes of traces that the page may send; 0 for none.")]

"""The options of ``sightline profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.commands.device_option import Device as _Device


def _list_measures(wanted: bool) -> None:
    """Prints every measure with its formula and unit; those marked * are measured by default."""
    if wanted:
        from sightline.profiling.statistics import STATISTICS

        for one in STATISTICS.values():
            print(f"{'*' if one.standard else ' '} {one.name:<20} {one.formula}, in {one.unit}")
        raise typer.Exit


Model = Annotated[str, typer.Argument(help="Hugging Face name, local folder, or default: all-MiniLM-L6-v2.")]
CorpusPath = Annotated[
    Path,
    typer.Argument(
        help="A text file (one document per line), .jsonl, .csv or .tsv, also with .gz; or a folder of texts."
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The table: .parquet or .csv.")]
Plot = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw layers by heads, as .png, .svg or .pdf.")
]
Split = Annotated[
    str | None, typer.Option(help="How a text file is cut: line, blank (at blank lines), file (not at all).")
]
Field = Annotated[str | None, typer.Option(metavar="NAME", help="Key or column of the text. Default: text.")]
Target = Annotated[
    str | None, typer.Option(metavar="NAME", help="Key or column of the text that a decoder reads.")
]
Limit = Annotated[int | None, typer.Option(help="Read at most this many documents.")]
MaxTokens = Annotated[int | None, typer.Option(help="Cut longer documents. Default: what the model takes.")]
Windows = Annotated[bool, typer.Option("--windows", help="Turn what is cut off into further documents.")]
Measures = Annotated[
    list[str] | None,
    typer.Option("--measure", metavar="NAME", help="Only this measure; may be repeated."),
]
ListMeasures = Annotated[
    bool,
    typer.Option("--measures", is_eager=True, callback=_list_measures, help="List the measures, and stop."),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "--layer", metavar="NAME", help="Only layers with this number, name or glob; may be repeated."
    ),
]
Labels = Annotated[
    bool | None,
    typer.Option("--labels/--no-labels", help="Say what each head does. Default: unless --measure chooses."),
]
Batch = Annotated[int, typer.Option(help="At most this many documents of similar length run together.")]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16 or float16.")]
Device = _Device
Threads = Annotated[int | None, typer.Option(help="Threads of this process.")]
Resume = Annotated[
    bool | None,
    typer.Option("--resume/--restart", help="Continue from FILE.partial, or start over. Default: continue."),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Pass over documents that cannot be read.")]
Unverified = Annotated[
    bool, typer.Option("--unverified", help="Measure attention that could not be verified, too.")
]

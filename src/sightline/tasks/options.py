"""Options of every command that trains: where its data are, and its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sightline.common.errors import CommandError
from sightline.tasks.task import Source

Valid = Annotated[Path | None, typer.Option(help="Validation data. Default: a part of --data.")]
Test = Annotated[Path | None, typer.Option(help="Test data, read once at the end.")]
Columns = Annotated[
    str | None, typer.Option(help="Names of the columns, with a comma: text,label or source,target.")
]
Labels = Annotated[Path | None, typer.Option(help="Names of the numbers in IDX files, a line each.")]
Fold = Annotated[str | None, typer.Option(metavar="I/K", help="Part I of K is the test data.")]
Encoding = Annotated[str, typer.Option(help="Of text files.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Pass over rows that cannot be read.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A setting: width=256, epochs=5, ..."),
]
StartWith = Annotated[
    str | None,
    typer.Option(
        "--start", metavar="MODEL", help="A trained model, or its task: its body and tokenizer come first."
    ),
]


def source_of(
    data: Path,
    valid: Path | None,
    test: Path | None,
    columns: str | None,
    labels: Path | None,
    fold: str | None,
    encoding: str,
    skip_bad: bool,
) -> Source:
    """The data source that these options describe.

    Raises:
        CommandError: for an invalid fold, or a number of columns other than two.
    """
    names = () if columns is None else tuple(name.strip() for name in columns.split(","))
    part = None if fold is None else _fold(fold)
    return Source(data, valid, test, names, encoding, skip_bad, part, labels)


def _fold(text: str) -> tuple[int, int]:
    number, _, of = text.partition("/")
    if not (number.isdigit() and of.isdigit() and 0 <= int(number) < int(of) and int(of) > 1):
        raise CommandError(f"--fold {text}: expected I/K with 0 <= I < K, such as 0/10")
    return int(number), int(of)

"""Rows of ordinary files: tables, JSON lines, and folders with a text file for each label."""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.common.errors import CommandError

_TABLES = {".tsv": "\t", ".csv": ","}
_JSON = {".jsonl", ".ndjson"}


class DataError(CommandError):
    """The data cannot be read; the message names file, line and reason."""


class _NoColumns(Exception):  # noqa: N818  (becomes a DataError where the path is known)
    """The requested columns are not in the header."""


@dataclass
class Rows:
    """Rows with the same columns.

    Attributes:
        rows: each a tuple with a text for every column.
        bad: a sentence for each item that was skipped.
    """

    rows: list[tuple[str, ...]] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)


def read_rows(
    path: Path,
    columns: Sequence[str],
    *,
    named: bool = False,
    skip_bad: bool = False,
    encoding: str = "utf-8",
) -> Rows:
    """Every row of a file as texts in the order of ``columns``; none of them may be empty.

    A .tsv or .csv whose first row names all columns has a header; else its first columns are taken in order.
    JSON lines (.jsonl) must have the columns as keys. Each also with .gz.

    Args:
        named: the user named the columns, so a table whose header lacks them is an error.
        skip_bad: skip empty or malformed rows and list them in ``bad``; else the first one is an error.

    Raises:
        DataError: for a file that is missing, of another kind or without a valid row, or for a bad row.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in _TABLES and suffix not in _JSON:
        known = ", ".join(sorted((*_TABLES, *_JSON)))
        raise DataError(f"{path}: is no table; known are {known}, each also with .gz")
    table = Rows()
    try:
        with _open(path, encoding) as lines:
            rows = (
                _json_rows(lines, columns)
                if suffix in _JSON
                else _table(lines, _TABLES[suffix], columns, named)
            )
            for number, row in rows:
                _take(table, f"{path}, line {number}", row, skip_bad)
    except _NoColumns as error:
        raise DataError(f"{path}: {error}") from None
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not table.rows:
        raise DataError(f"{path}: holds no row with {' and '.join(columns)}")
    return table


def read_label_folder(folder: Path, *, skip_bad: bool = False, encoding: str = "utf-8") -> Rows:
    """(text, label) of a folder with one text file for each label, a text a line.

    The label is the file's stem, or its ending where all stems are one: ``pos.txt``, ``x.pos``.

    Raises:
        DataError: for fewer than two such files, or a text that cannot be read.
    """
    files = sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and not path.name.lower().startswith(("readme", "."))
    )
    if len(files) < 2:
        raise DataError(f"{folder}: expected a text file for each of two or more labels, found {len(files)}")
    same_stem = len({path.stem for path in files}) == 1
    table = Rows()
    for path in files:
        label = path.suffix.lstrip(".") if same_stem else path.stem
        try:
            with _open(path, encoding) as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        _take(table, f"{path}, line {number}", (line, label), skip_bad)
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
    return table


def _open(path: Path, encoding: str) -> Any:
    """The file as text; an invalid byte becomes a lone surrogate, so that its row can be reported."""
    try:
        known = codecs.lookup(encoding).name
    except LookupError:
        raise DataError(f"--encoding {encoding}: there is no such encoding") from None
    options: dict[str, Any] = {
        "encoding": "utf-8-sig" if known == "utf-8" else known,
        "errors": "surrogateescape" if known in ("utf-8", "utf-8-sig") else "strict",
        "newline": "",
    }
    return gzip.open(path, "rt", **options) if path.suffix == ".gz" else path.open(**options)


def _odd_byte(text: str) -> str | None:
    """The complaint about a text with a byte that could not be decoded."""
    stray = next((each for each in text if "\udc80" <= each <= "\udcff"), None)
    if stray is None:
        return None
    return f"byte {ord(stray) - 0xDC00:#04x} is not UTF-8; give the right --encoding, such as latin-1"


def _take(table: Rows, where: str, row: tuple[str, ...] | str, skip_bad: bool) -> None:
    reason = row if isinstance(row, str) else ""
    if not reason and not all(text.strip() for text in row):
        reason = "a column is empty"
    reason = reason or next((odd for odd in map(_odd_byte, row) if odd), "")
    if reason:
        if not skip_bad:
            raise DataError(f"{where}: {reason} (--skip-bad passes over such rows)")
        table.bad.append(f"{where}: {reason}")
    elif not isinstance(row, str):
        table.rows.append(tuple(text.strip() for text in row))


def _table(
    lines: Any, delimiter: str, columns: Sequence[str], named: bool
) -> Iterator[tuple[int, tuple[str, ...] | str]]:
    csv.field_size_limit(1 << 30)  # by default a long document is an error
    if delimiter == ",":
        reader = csv.reader(lines)
    else:  # in a .tsv a quote is a quote
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    places: list[int] | None = None
    for row in reader:
        if places is None:
            if set(columns) <= set(row):
                places = [row.index(name) for name in columns]
                continue
            if named:
                raise _NoColumns(f"--columns {','.join(columns)}: its first row has {', '.join(row)}")
            places = list(range(len(columns)))
        if not row:
            yield reader.line_num, "the line is empty"
        elif len(row) <= max(places):
            yield reader.line_num, f"has {len(row)} columns, expected {max(places) + 1} or more"
        else:
            yield reader.line_num, tuple(row[place] for place in places)


def _json_rows(lines: Any, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...] | str]]:
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"is no JSON: {error}"
            continue
        missing = [name for name in columns if not isinstance(record, dict) or record.get(name) is None]
        wrong = [name for name in columns if not missing and isinstance(record[name], (dict, list))]
        if missing:
            yield number, f"lacks {', '.join(missing)}"
        elif wrong:
            yield number, f"{wrong[0]} is no text"
        else:
            yield number, tuple(str(record[name]) for name in columns)

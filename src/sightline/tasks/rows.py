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
    """The columns that were asked for are not in the header."""


@dataclass
class Rows:
    """Rows with the same columns.

    Attributes:
        rows: each a tuple with a text for every column.
        bad: what was passed over, a sentence each.
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
        named: the user gave the columns, so a table without a header that has them is an error.
        skip_bad: pass over rows that are empty or malformed, and say so in ``bad``; else the first ends it.

    Raises:
        DataError: for a file that is missing, of another kind or without a sound row, or for a bad row.
    """
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in _TABLES and suffix not in _JSON:
        known = ", ".join(sorted((*_TABLES, *_JSON)))
        raise DataError(f"{path}: is no table; known are {known}, each also with .gz")
    found = Rows()
    try:
        with _open(path, encoding) as lines:
            rows = (
                _json_rows(lines, columns)
                if suffix in _JSON
                else _table(lines, _TABLES[suffix], columns, named)
            )
            for number, row in rows:
                _take(found, f"{path}, line {number}", row, skip_bad)
    except _NoColumns as error:
        raise DataError(f"{path}: {error}") from None
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not found.rows:
        raise DataError(f"{path}: holds no row with {' and '.join(columns)}")
    return found


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
    found = Rows()
    for path in files:
        label = path.suffix.lstrip(".") if same_stem else path.stem
        try:
            with _open(path, encoding) as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        _take(found, f"{path}, line {number}", (line, label), skip_bad)
        except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
    return found


def _open(path: Path, encoding: str) -> Any:
    """The file as text; a byte that is not UTF-8 becomes a lone surrogate, so that its row can be told."""
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
    """What is said of a text with a byte that could not be decoded."""
    found = next((each for each in text if "\udc80" <= each <= "\udcff"), None)
    if found is None:
        return None
    return f"byte {ord(found) - 0xDC00:#04x} is not UTF-8; give the right --encoding, such as latin-1"


def _take(found: Rows, where: str, row: tuple[str, ...] | str, skip_bad: bool) -> None:
    reason = row if isinstance(row, str) else ""
    if not reason and not all(text.strip() for text in row):
        reason = "a column is empty"
    reason = reason or next((odd for odd in map(_odd_byte, row) if odd), "")
    if reason:
        if not skip_bad:
            raise DataError(f"{where}: {reason} (--skip-bad passes over such rows)")
        found.bad.append(f"{where}: {reason}")
    elif not isinstance(row, str):
        found.rows.append(tuple(text.strip() for text in row))


def _table(
    lines: Any, delimiter: str, columns: Sequence[str], named: bool
) -> Iterator[tuple[int, tuple[str, ...] | str]]:
    csv.field_size_limit(1 << 30)  # the default takes a long document for an error
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
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"is no JSON: {error}"
            continue
        missing = [name for name in columns if not isinstance(found, dict) or found.get(name) is None]
        wrong = [name for name in columns if not missing and isinstance(found[name], (dict, list))]
        if missing:
            yield number, f"lacks {', '.join(missing)}"
        elif wrong:
            yield number, f"{wrong[0]} is no text"
        else:
            yield number, tuple(str(found[name]) for name in columns)

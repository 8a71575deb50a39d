"""A profile's table as a .parquet or .csv file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

from sightline.common.atomic import replacing, write_atomically
from sightline.common.errors import CommandError
from sightline.profiling.requirement import INSTALL
from sightline.profiling.row import NAMES, TYPES, ProfileRow

SUFFIXES = (".parquet", ".csv")


def check_suffix(path: Path) -> None:
    """Raises for a name with another suffix, and for .parquet without pyarrow.

    Raises:
        CommandError.
    """
    if path.suffix not in SUFFIXES:
        raise CommandError(f"{path}: the name of a profile must end in {' or '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        _pyarrow()


def write_profile(path: Path, rows: Sequence[ProfileRow], info: dict[str, Any]) -> None:
    """Writes rows to a file, whole or not at all; ``info`` only to .parquet, since .csv has no place for it.

    Raises:
        CommandError: for another suffix, a file that cannot be written, or .parquet without pyarrow.
    """
    check_suffix(path)
    if path.suffix == ".csv":
        write_atomically(path, [_csv_text(rows)])
    else:
        _write_parquet(path, rows, info)


def read_profile(path: Path) -> tuple[list[ProfileRow], dict[str, Any]]:
    """The rows and the info of a file that :func:`write_profile` wrote.

    Raises:
        CommandError: for another suffix, or a file that is no such table.
    """
    check_suffix(path)
    try:
        if path.suffix == ".csv":
            with open(path, encoding="utf-8", newline="") as file:
                return [_row(record) for record in csv.DictReader(file)], {}
        table = _pyarrow().parquet.read_table(path)
        info = json.loads((table.schema.metadata or {}).get(b"sightline", b"{}"))
        return [_row(record) for record in table.to_pylist()], info
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CommandError(f"{path} cannot be read as a profile: {reason}") from None


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise CommandError(f".parquet needs pyarrow: {INSTALL}; .csv needs nothing more") from None
    return pyarrow


def _csv_text(rows: Sequence[ProfileRow]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(NAMES)
    for row in rows:
        # repr of a float reads back as the same float; NaN becomes an empty cell.
        writer.writerow(["" if value != value else value for value in astuple(row)])
    return text.getvalue()


def _write_parquet(path: Path, rows: Sequence[ProfileRow], info: dict[str, Any]) -> None:
    pa = _pyarrow()
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, kinds[TYPES[name]]) for name in NAMES])
    arrays = [
        pa.array([getattr(row, name) for row in rows], kinds[TYPES[name]], from_pandas=True) for name in NAMES
    ]
    metadata = json.dumps(info, ensure_ascii=False, sort_keys=True)
    table = pa.Table.from_arrays(arrays, schema=schema.with_metadata({"sightline": metadata}))
    try:
        with replacing(path) as file:
            pa.parquet.write_table(table, file)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from None


def _row(record: dict[str, Any]) -> ProfileRow:
    return ProfileRow(*(_value(record[name], TYPES[name]) for name in NAMES))


def _value(cell: Any, kind: type[str] | type[int] | type[float]) -> Any:
    return math.nan if kind is float and cell in (None, "") else kind(cell)

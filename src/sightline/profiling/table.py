"""What a profile found: a row for each head and measure, and what it was found on."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.common.atomic import replacing, write_atomically
from sightline.common.errors import CommandError
from sightline.profiling.state import State
from sightline.profiling.statistics import STATISTICS
from sightline.profiling.tally import Call

if TYPE_CHECKING:
    from collections import Counter

SUFFIXES = (".parquet", ".csv")
INSTALL = 'pip install "sightline[profile]"'


@dataclass(frozen=True)
class Row:
    """One measure of one head, over all documents. Each document counts once.

    Attributes:
        stack: which attention of the model: "self", or "encoder self", "decoder self" and "cross".
        layer: which layer of it, from 0.
        module: the qualified name of the module that computes it.
        turn: which call of that module, from 0; above 0 only where layers share a module.
        head: from 0.
        measure: see ``--measures``.
        count: documents that have this number.
        mean: of the documents' numbers; NaN where there are none. std: with count - 1; NaN for one document.
        min, max: the least and the largest.
        p10, median, p90: quantiles, read off a histogram of 128 bins.
        label: what the head does, by most of the documents asked; "" for cross and where none was.
        label_share: by how many of them.
    """

    stack: str
    layer: int
    module: str
    turn: int
    head: int
    measure: str
    count: int
    mean: float
    std: float
    min: float
    max: float
    p10: float
    median: float
    p90: float
    label: str
    label_share: float


NAMES = tuple(field.name for field in fields(Row))
_TYPES = {field.name: {"str": str, "int": int, "float": float}[str(field.type)] for field in fields(Row)}


class Profile:
    """Head statistics over a corpus.

    Attributes:
        rows: a :class:`Row` for each head and measure.
        info: what they were found on: "model", "documents", "tokens", "notices", "settings". Empty where the
            rows come from a CSV file, which has no place for it.
    """

    def __init__(self, rows: Iterable[Row], info: dict[str, Any] | None = None) -> None:
        self.rows, self.info = list(rows), dict(info or {})

    @property
    def measures(self) -> list[str]:
        """The measures that it has, in the catalogue's order."""
        there = {row.measure for row in self.rows}
        return [name for name in STATISTICS if name in there]

    @property
    def stacks(self) -> list[str]:
        """Its stacks of layers."""
        return list(dict.fromkeys(row.stack for row in self.rows))

    def values(self, measure: str, statistic: str = "mean", stack: str | None = None) -> Tensor:
        """One number for each layer and head.

        Args:
            measure: one of ``measures``.
            statistic: a column: "mean", "std", "min", "max", "p10", "median", "p90" or "count".
            stack: one of ``stacks``; by default the first that has the measure.

        Returns:
            [L,H], float64; NaN where a layer has fewer heads, or nothing was there to count.

        Raises:
            ValueError: for a measure, column or stack that is not there.
        """
        if statistic not in NAMES[6:14]:
            raise ValueError(f"statistic: must be one of {', '.join(NAMES[6:14])}, got {statistic!r}.")
        found = [row for row in self.rows if row.measure == measure and stack in (None, row.stack)]
        if not found:
            where = "" if stack is None else f" in {stack!r} (stacks: {', '.join(self.stacks)})"
            raise ValueError(
                f"measure: there is no {measure!r}{where}; there are: {', '.join(self.measures)}."
            )
        found = [row for row in found if row.stack == found[0].stack]
        shape = max(row.layer for row in found) + 1, max(row.head for row in found) + 1
        out = torch.full(shape, math.nan, dtype=torch.float64)
        for row in found:
            out[row.layer, row.head] = getattr(row, statistic)
        return out

    def save(self, path: str | Path) -> None:
        """Writes the table to a .parquet or .csv file, whole or not at all.

        Raises:
            CommandError: for another suffix, a file that cannot be written, or .parquet without pyarrow.
        """
        path = Path(path)
        check_suffix(path)
        if path.suffix == ".csv":
            write_atomically(path, _csv_lines(self.rows))
        else:
            _write_parquet(path, self)

    def plot(self, path: str | Path) -> None:
        """Draws each measure's means, layers by heads, into a .png, .svg or .pdf file.

        Raises:
            CommandError: for another suffix, a file that cannot be written, or without matplotlib.
        """
        from sightline.profiling.plot import write_plot

        write_plot(Path(path), self)

    def __repr__(self) -> str:
        documents = f", {self.info['documents']} documents" if "documents" in self.info else ""
        heads = len({(row.stack, row.layer, row.head) for row in self.rows})
        name = self.info.get("model", "no name")
        return f"Profile({name}{documents}, {heads} heads, {len(self.measures)} measures)"


def profile_of(state: State, info: dict[str, Any]) -> Profile:
    """The table of what was counted."""
    summed = state.tally.summed()
    stacks = _stacks(sorted({column.call for column in summed}))
    order = list(STATISTICS)
    rows = []
    for call, (stack, layer) in stacks.items():
        columns = sorted(
            (column for column in summed if column.call == call), key=lambda one: order.index(one.measure)
        )
        for column in columns:
            for head, one in enumerate(summed[column]):
                label, share = _label(state.labels.get(call), head)
                place = (stack, layer, call.layer, call.turn, head, column.measure)
                rows.append(Row(*(*place, *astuple(one), label, share)))
    return Profile(rows, info)


def _label(heads: list[Counter[str]] | None, head: int) -> tuple[str, float]:
    """A head's most frequent label (of equals, the first by name) and its share."""
    if heads is None or not heads[head]:
        return "", math.nan
    label, count = min(heads[head].items(), key=lambda item: (-item[1], item[0]))
    return label, count / heads[head].total()


def _stacks(calls: list[Call]) -> dict[Call, tuple[str, int]]:
    """Each call's stack and its layer there: calls whose names differ in numbers only belong together."""
    patterns: dict[tuple[str, str], list[Call]] = {}
    for call in calls:
        patterns.setdefault((call.kind, re.sub(r"\d+", "*", call.layer)), []).append(call)
    found: dict[Call, tuple[str, int]] = {}
    for (kind, pattern), members in patterns.items():
        alone = sum(other == kind for other, _ in patterns) == 1
        name = kind if alone else f"{_side(pattern, kind, list(patterns))} {kind}"
        found |= {call: (name, layer) for layer, call in enumerate(members)}
    return found


def _side(pattern: str, kind: str, patterns: list[tuple[str, str]]) -> str:
    """ "encoder" or "decoder" where that tells a pattern from the others of its kind, else the pattern."""

    def side(name: str) -> str | None:
        return next((part for part in name.split(".") if part in ("encoder", "decoder")), None)

    own = side(pattern)
    return own if own and [side(p) for k, p in patterns if k == kind].count(own) == 1 else pattern


# --- files ------------------------------------------------------------------------------------------


def check_suffix(path: Path) -> None:
    """Refuses a table's name with another suffix, and .parquet without pyarrow.

    Raises:
        CommandError.
    """
    if path.suffix not in SUFFIXES:
        raise CommandError(f"cannot write {path}: the table's name must end in {' or '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        _pyarrow()


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise CommandError(f".parquet needs pyarrow: {INSTALL}; .csv needs nothing more") from None
    return pyarrow


def _csv_lines(rows: list[Row]) -> Iterable[str]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(NAMES)
    for row in rows:
        # repr of a float reads back as the same float; what is absent is empty.
        writer.writerow(["" if value != value else value for value in astuple(row)])
    yield text.getvalue()


def _write_parquet(path: Path, profile: Profile) -> None:
    pa = _pyarrow()
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, kinds[_TYPES[name]]) for name in NAMES])
    columns = [[getattr(row, name) for row in profile.rows] for name in NAMES]
    arrays = [
        pa.array(column, kinds[_TYPES[name]], from_pandas=True)
        for name, column in zip(NAMES, columns, strict=True)
    ]
    info = json.dumps(profile.info, ensure_ascii=False, sort_keys=True)
    table = pa.Table.from_arrays(arrays, schema=schema.with_metadata({"sightline": info}))
    try:
        with replacing(path) as file:
            pa.parquet.write_table(table, file)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from None


def load(path: Path) -> Profile:
    """Reads what ``Profile.save`` wrote.

    Raises:
        CommandError: for another suffix, or a file that is no such table.
    """
    check_suffix(path)
    try:
        if path.suffix == ".csv":
            with open(path, encoding="utf-8", newline="") as file:
                records, info = list(csv.DictReader(file)), {}
        else:
            table = _pyarrow().parquet.read_table(path)
            records = table.to_pylist()
            info = json.loads((table.schema.metadata or {}).get(b"sightline", b"{}"))
        return Profile([_row(record) for record in records], info)
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CommandError(f"{path} is no profile that can be read: {reason}") from None


def _row(record: dict[str, Any]) -> Row:
    return Row(
        *(
            _TYPES[name](math.nan if record[name] in (None, "") and _TYPES[name] is float else record[name])
            for name in NAMES
        )
    )

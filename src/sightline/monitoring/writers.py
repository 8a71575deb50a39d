"""Where the numbers go: a CSV file, TensorBoard, W&B, or a function."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from sightline.monitoring.layer_attention import SUMMARY, LayerAttention

COLUMNS = ("step", "layer", "kind", *SUMMARY)


class Writer(Protocol):
    """Takes what was measured in one step."""

    def write(self, step: int, layers: Sequence[LayerAttention]) -> None:
        """Writes one step."""

    def close(self) -> None:
        """Closes what the writer itself opened."""


def open_writers(to: Any) -> list[Writer]:
    """The writers for the monitor's ``to``.

    Raises:
        TypeError: for anything else; OSError, ValueError: for a file that cannot be continued.
    """
    if to is None:
        return []
    writers: list[Writer] = []
    try:
        for target in to if isinstance(to, (list, tuple)) else [to]:
            writers.append(_writer(target))
    except BaseException:
        for writer in writers:
            writer.close()
        raise
    return writers


def _writer(to: Any) -> Writer:
    if isinstance(to, (str, os.PathLike)):
        return CSVFile(Path(to))
    if callable(getattr(to, "add_scalar", None)):
        return TensorBoard(to)
    if callable(getattr(to, "log", None)) and not callable(getattr(to, "addHandler", None)):
        return WandB(to)
    if callable(to):
        return Function(to)
    raise TypeError(
        "to: expected the path of a CSV file, a SummaryWriter, a W&B run, a function of (step, layers), or a "
        f"list of these, got {type(to).__name__}."
    )


class CSVFile:
    """One row for each layer of each logged step, with the columns ``COLUMNS``; on disk after every step.

    An existing file is continued; a last row that was cut short is removed first.

    Raises:
        ValueError: for a file with other columns; OSError: for a path that cannot be written.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError(f"to: {str(path)!r} is a folder; give the path of a CSV file.")
        try:
            self._file = open(path, "a+b")  # noqa: SIM115 (open until close())
        except OSError as error:
            raise type(error)(f"to: {str(path)!r} cannot be written: {error.strerror}.") from None
        try:
            self._continue(path)
        except BaseException:
            self._file.close()
            raise

    def _continue(self, path: Path) -> None:
        self._file.seek(0)
        header = self._file.readline(4096)
        if not header:
            self._put([COLUMNS])
            return
        try:
            columns = next(csv.reader([header.decode("utf-8")]), [])
        except (UnicodeDecodeError, csv.Error):
            columns = ["(not CSV)"]
        if tuple(columns) != COLUMNS or not header.endswith(b"\n"):
            raise ValueError(
                f"to: {str(path)!r} is another file: its first line is {_short(', '.join(columns))!r}, not "
                f"{', '.join(COLUMNS)!r}. Give another path."
            )
        self._file.truncate(_end_of_last_line(self._file))

    def write(self, step: int, layers: Sequence[LayerAttention]) -> None:
        self._put([(step, layer.name, layer.kind, *_texts(layer)) for layer in layers])

    def _put(self, rows: Sequence[Sequence[object]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._file.write(text.getvalue().encode("utf-8"))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _end_of_last_line(file: Any) -> int:
    """Where the last complete line ends."""
    end: int = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        place = file.read(end - start).rfind(b"\n")
        if place >= 0:
            return int(start + place + 1)
        end = start
    return 0


def _texts(layer: LayerAttention) -> list[str]:
    return [f"{value:.7g}" for value in layer.summary().values()]


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _tags(layers: Sequence[LayerAttention]) -> dict[str, float]:
    """attention/{layer}/{name}: number; {layer} includes the kind where a module does self and cross."""
    names = [layer.name for layer in layers]
    tags: dict[str, float] = {}
    for layer in layers:
        where = layer.name or "model"
        if names.count(layer.name) > 1:
            where = f"{where}.{layer.kind}"
        numbers = layer.summary()
        del numbers["heads"]  # always the same
        tags |= {f"attention/{where}/{name}": value for name, value in numbers.items()}
    return tags


class TensorBoard:
    """Scalars ``attention/{layer}/{name}`` in a SummaryWriter, which stays open."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, step: int, layers: Sequence[LayerAttention]) -> None:
        for tag, value in _tags(layers).items():
            self._writer.add_scalar(tag, value, step)

    def close(self) -> None:
        pass


class WandB:
    """One ``run.log`` per step, with the keys ``attention/{layer}/{name}``; the run stays open."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, step: int, layers: Sequence[LayerAttention]) -> None:
        self._run.log(_tags(layers), step=step)

    def close(self) -> None:
        pass


class Function:
    """Calls a function with the step and the layers, including every head's numbers."""

    def __init__(self, function: Callable[[int, list[LayerAttention]], object]) -> None:
        self._function = function

    def write(self, step: int, layers: Sequence[LayerAttention]) -> None:
        self._function(step, list(layers))

    def close(self) -> None:
        pass

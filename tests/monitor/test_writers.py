"""Where the numbers go."""

from __future__ import annotations

import csv
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import sightline
from sightline.monitoring.writers import COLUMNS

from .models import Model, batch

HEADER = "step,layer,kind,heads,entropy,entropy_min,normalized_entropy,max_logit,sink_mass,dead_heads"


def train(to: Any, steps: int = 3, **options: Any) -> list[list[Any]]:
    """What was measured in each step."""
    torch.manual_seed(0)
    model, seen = Model(), []
    with sightline.monitor(model, 2, to, **options) as monitor:
        for _ in range(steps):
            model(batch())
            seen.append(monitor.last)
    return seen[::2]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "attention.csv"
    seen = train(path)
    assert path.read_text().splitlines()[0] == HEADER == ",".join(COLUMNS)
    written = rows(path)
    assert [(row["step"], row["layer"], row["kind"]) for row in written] == [
        ("0", "layers.0", "self"), ("0", "layers.1", "self"), ("2", "layers.0", "self"), ("2", "layers.1", "self"),
    ]  # fmt: skip
    for row, layer in zip(written, [layer for layers in seen for layer in layers], strict=True):
        for name, value in layer.summary().items():
            assert float(row[name]) == pytest.approx(value, rel=1e-6)


def test_csv_is_on_disk_after_every_step_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "attention.csv"
    model = Model(1)
    monitor = sightline.monitor(model, 1, str(path))
    model(batch())
    assert len(rows(path)) == 1
    monitor.close()
    with path.open("a") as file:
        file.write("1,layers.0,se")  # a crash
    with sightline.monitor(model, 1, path, start=7):
        model(batch())
    assert path.read_text().count(HEADER) == 1
    assert [row["step"] for row in rows(path)] == ["0", "7"]
    assert all(None not in row and None not in row.values() for row in rows(path))


@pytest.mark.parametrize("text", [b"a,b\n1,2\n", HEADER.encode(), b"\xff\xfe\x00", b"x" * 9000])
def test_csv_refuses_another_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "other.csv"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"to: '.*other.csv' is another file.*Give another path"):
        train(path)
    assert path.read_bytes() == text


def test_csv_path_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"to: '.*/none/a.csv' cannot be written: No such file"):
        train(tmp_path / "none" / "a.csv")
    with pytest.raises(IsADirectoryError, match="to: .* is a folder; give the path of a CSV file"):
        train(tmp_path)


class Board:
    """What is used of a SummaryWriter."""

    def __init__(self) -> None:
        self.scalars: dict[tuple[str, int], float] = {}

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        self.scalars[tag, step] = value


class Run:
    """What is used of a W&B run."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.logged.append((step, values))


def test_tensorboard_wandb_and_a_function_at_once() -> None:
    board, run, calls = Board(), Run(), []
    seen = train([board, run, lambda step, layers: calls.append((step, layers))])
    assert calls == [(0, seen[0]), (2, seen[1])]
    assert [step for step, _ in run.logged] == [0, 2]
    for step, values in run.logged:
        assert {(tag, step): value for tag, value in values.items()}.items() <= board.scalars.items()
    assert len(board.scalars) == 2 * 2 * 6
    assert board.scalars["attention/layers.1/max_logit", 2] == max(seen[1][1].max_logit)


def test_the_event_file_of_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard, which is large and no dependency")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        seen = train(writer)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    scalars = events.Scalars("attention/layers.0/entropy")
    assert [event.step for event in scalars] == [0, 2]
    assert [event.value for event in scalars] == pytest.approx(
        [layers[0].summary()["entropy"] for layers in seen]
    )


def test_a_writer_that_fails_is_reported_once_and_the_others_write(tmp_path: Path) -> None:
    def full(step: int, layers: Any) -> None:
        raise OSError("disk full")

    path = tmp_path / "a.csv"
    with pytest.warns(
        RuntimeWarning, match=r"step 0 could not be written \(Function\): OSError: disk full"
    ) as warned:
        train([full, path], steps=5)
    assert len(warned) == 1 and {row["step"] for row in rows(path)} == {"0", "2", "4"}


def test_a_full_disk(tmp_path: Path) -> None:
    """Rows that cannot be written do not end the training, neither while it runs nor when it is over."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    model = Model(1)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        monitor = sightline.monitor(model, 1, tmp_path / "a.csv")
        writer: Any = monitor._writers[0]
        writer._file.close()
        writer._file = full.open("a+b")
        model(batch())
        model(batch())
        monitor.close()
    texts = [str(warning.message) for warning in warned]
    assert len(texts) == 2 and all("CSVFile" in text and "No space left" in text for text in texts)


def test_anything_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="to: .* got Logger"):
        train([tmp_path / "a.csv", logging.getLogger("x")])
    assert (tmp_path / "a.csv").read_text() == HEADER + "\n"

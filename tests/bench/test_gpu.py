"""What ``sightline bench --device cuda`` does, on the CPU: that the program runs, and finds what is wrong."""

from __future__ import annotations

import json

import pytest
import torch

from pretend_gpu import pretend_gpu
from sightline import cli
from sightline.bench.gpu import clock, correct, passes
from sightline.bench.sections import ON_DEVICE, load_section
from sightline.bench.session import BenchSettings, Session
from sightline.bench.text_table import section_table
from sightline.bench.timing import Budget
from sightline.commands import bench as command

INSTANT = Budget(0.0, least=1, most=1, sample=0.0)
SETTINGS = BenchSettings("full", 1, INSTANT, peers=())


@pytest.fixture(scope="module")
def tables():
    """Rows of every section, and the notes."""
    with Session(SETTINGS) as session:
        found = {name: list(load_section(name).rows(session)) for name in ON_DEVICE}
        return found, session.notes


@pytest.mark.parametrize("name", ON_DEVICE)
def test_every_section_runs_and_fills_its_table(tables, name):
    rows, section = tables[0][name], load_section(name)
    assert rows
    assert json.dumps(rows)
    table = section_table(section, rows, [])
    assert all(len(row) == len(table.headings) for row in table.rows)
    for row in rows:
        assert row.get("mark", "not measured") == "not measured"  # a CPU meets no target of a GPU


def test_all_is_right(tables):
    rows, notes = tables
    assert len(rows["gpu-correct"]) == 15
    assert {row["verdict"] for row in rows["gpu-correct"]} == {"ok"}
    assert max(row["readouts"] for row in rows["gpu-correct"]) < 2e-4
    parts = {
        "context",
        "query",
        "key",
        "value",
        "lse",
        "entropy",
        "received",
        "max",
        "top-k",
        "distance",
        "mass",
    }
    assert set(rows["gpu-correct"][0]["errors"]) == parts | {"A @ x", "A.mT @ x"}
    assert not [note for note in notes.get("sightline", {}) if note.startswith(("wrong", "failed"))]


def test_marks(tables):
    rows = tables[0]
    assert {row["target"] for row in rows["gpu-passes"]} == {"≥ 0.97"}
    assert [row["target"] for row in rows["gpu-readouts"] if "target" in row] == ["≤ 0.6", "≤ 0.8"]
    assert [row["target"] for row in rows["gpu-memory"] if "target" in row] == ["≤ 1.1"]
    with pretend_gpu() as device, Session(BenchSettings(peers=(), device=device)) as session:
        assert clock.mark(session, 0.98, 0.97, least=True)["mark"] == "met"
        assert clock.mark(session, 0.61, 0.6, least=False)["mark"] == "missed"
        assert clock.mark(session, None, 0.6, least=False)["mark"] == "not measured"
        assert clock.sized(session, full=1, quick=2, tiny=3) == 1
        assert session.wall


def test_what_is_wrong_is_said(monkeypatch):
    right = correct.attention

    def wrong(*given, **options):
        found = right(*given, **options)
        return (found[0] * 1.01, found[1]) if isinstance(found, tuple) else found * 1.01

    monkeypatch.setattr(correct, "attention", wrong)
    with Session(SETTINGS) as session:
        row = next(iter(correct.rows(session)))
        assert row["verdict"] == "wrong"
        assert any(
            note.startswith("wrong on full float32: context by") for note in session.notes["sightline"]
        )
    monkeypatch.setattr(correct, "attention", lambda *given, **options: 1 / 0)
    with Session(SETTINGS) as session:
        assert [row["verdict"] for row in correct.rows(session)] == ["failed"] * 15
        assert any("ZeroDivisionError" in note for note in session.notes["sightline"])


def test_a_vendor_that_is_wrong_is_not_timed(monkeypatch):
    monkeypatch.setattr(passes, "vendors", lambda causal, device: {"cudnn": lambda q, k, v: v * 0 + 1})
    with Session(SETTINGS) as session:
        row = next(iter(passes.rows(session)))
        assert row["contenders"]["cudnn"]["status"] == "wrong"
        assert "ms" not in row["contenders"]["cudnn"]
        assert row["best_peer"] is None
        assert any(note.startswith("wrong: it is off by") for note in session.notes["cudnn"])


def test_a_section_stops_when_its_time_is_spent():
    rows = ({"case": str(at), "dtype": "float32"} for at in range(9))
    with Session(SETTINGS) as session:
        assert len(list(clock.within(-1.0, rows, session, "gpu-x"))) == 1
        assert list(session.notes["gpu-x"]) == ["stopped after -1 s, behind 0 float32"]


def test_which_sections_a_device_has():
    assert command._sections(None, "cuda") == list(ON_DEVICE)
    assert "forward" in command._sections(None, "cpu")
    assert "gpu-memory" not in command._sections(None, "cpu")


def test_the_command(tmp_path, capsys):
    path = tmp_path / "gpu.json"
    page = tmp_path / "gpu.md"
    asked = ["bench", "--only", "gpu-memory", "--json", str(path), "--markdown", str(page)]
    assert cli.main(asked) == 0
    found = json.loads(path.read_text())
    assert list(found["sections"]) == ["gpu-memory"]
    assert "≤ 1.1" in page.read_text()
    if not torch.cuda.is_available():
        assert cli.main(["bench", "--device", "cuda"]) == 1
        assert "device 'cuda': PyTorch" in capsys.readouterr().err

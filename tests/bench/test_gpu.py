"""What ``sightline bench --device cuda`` does, on the CPU: that the program runs, and finds what is wrong."""

from __future__ import annotations

import json
import sys
import types
from importlib.machinery import ModuleSpec

import pytest
import torch

import sightline
from pretend_gpu import pretend_gpu
from sightline import cli
from sightline.bench.gpu import clock, correct, passes
from sightline.bench.gpu.column_sums import ColumnSums
from sightline.bench.sections import ON_DEVICE, load_section
from sightline.bench.session import BenchSettings, Session
from sightline.bench.text_table import section_table
from sightline.bench.timing import Budget
from sightline.commands import bench as command
from sightline.common.errors import CommandError

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


class Summing:
    """Stands in for a package: the mean over heads and queries, a share off."""

    def __init__(self, share):
        self.share = share

    def __call__(self, query, key, scale=None, is_causal=False, cls_len=None):
        mask = sightline.causal() if is_causal else None
        matrix = sightline.AttentionMatrix(query, key, mask=mask)
        return (matrix.received().mean(1) / query.shape[2] * self.share).half()


def received(monkeypatch, share=None):
    """The rows, and notes, where flash-colsum is that, or not installed."""
    if share is not None:
        module = types.ModuleType("flash_colsum")
        module.flash_colsum, module.__spec__ = Summing(share), ModuleSpec("flash_colsum", None)
        monkeypatch.setitem(sys.modules, "flash_colsum", module)
        monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1.0")
    with Session(SETTINGS) as session:
        return list(load_section("gpu-received").rows(session)), session.notes


def test_column_sums_of_others_are_beside_ours(monkeypatch):
    rows, notes = received(monkeypatch, share=1.001)
    assert [row["case"] for row in rows] == ["(1,2,16,8) full", "(1,2,8,8) × 16 causal"]
    for row in rows:
        entry = row["contenders"]["flash-colsum"]
        assert (entry["status"], entry["version"], row["best_peer"]) == ("ok", "0.1.0", "flash-colsum")
        assert entry["ratio"] > 0 and row["contenders"]["sightline"]["ms"] > 0
    assert "flash-colsum" not in notes


def test_column_sums_that_are_wrong_are_not_timed(monkeypatch):
    rows, notes = received(monkeypatch, share=1.1)
    assert [row["contenders"]["flash-colsum"]["status"] for row in rows] == ["wrong", "wrong"]
    assert "ms" not in rows[0]["contenders"]["flash-colsum"] and rows[0]["best_peer"] is None
    assert "wrong on (1,2,16,8): it is off by 0.1 of the largest sum" in notes["flash-colsum"]


@pytest.mark.parametrize("name", ["flash-colsum", "flash-colreduce"])
def test_column_sums_that_are_not_installed_are_said(monkeypatch, name):
    monkeypatch.setattr(ColumnSums, "missing", lambda self: f"not installed: pip install {self.package}")
    rows, notes = received(monkeypatch)
    assert notes[name] == {f"not installed: pip install {name}": None}
    table = section_table(load_section("gpu-received"), rows, [])
    assert {row[table.headings.index(f"× {name}")] for row in table.rows} == {"not installed"}


def test_column_sums_that_fail_are_left_out(monkeypatch):
    """As the package itself refuses tensors that are not on CUDA."""

    def refuses(*given, **options):
        raise ValueError("Flash attention only supports CUDA tensors, got cpu")

    monkeypatch.setattr(Summing, "__call__", refuses)
    rows, notes = received(monkeypatch, share=1.0)
    assert rows[0]["contenders"]["flash-colsum"]["status"] == "failed"
    assert "left out: Flash attention only supports CUDA tensors, got cpu" in notes["flash-colsum"]


def test_a_section_stops_when_its_time_is_spent():
    rows = ({"case": str(at), "dtype": "float32"} for at in range(9))
    with Session(SETTINGS) as session:
        assert len(list(clock.within(-1.0, rows, session, "gpu-x"))) == 1
        assert list(session.notes["gpu-x"]) == ["stopped after -1 s, behind 0 float32"]


def test_which_sections_a_device_has():
    assert command._sections(None, "cuda") == list(ON_DEVICE)
    assert "forward" in command._sections(None, "cpu")
    assert "gpu-memory" not in command._sections(None, "cpu")
    assert command._sections(["gpu-memory"], "cpu") == ["gpu-memory"]
    with pytest.raises(
        CommandError, match="--only forward: it measures the CPU; leave --device out, or take gpu-"
    ):
        command._sections(["gpu-memory", "forward"], "cuda")


def test_the_card_that_is_asked_for_is_the_current_one(monkeypatch):
    """Events are recorded, and kernels started, on the current one."""
    with pretend_gpu():
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        chosen = []
        monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
        assert command._device("cuda:1") == torch.device("cuda", 1)
        assert chosen == [torch.device("cuda", 1)]
        assert command._device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(CommandError, match="--device mps: nothing is measured there; known are cpu and cuda"):
        command._device("mps")


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

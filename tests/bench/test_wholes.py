"""Whole layers and models in the benchmark, on tiny ones."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from sightline.bench.host import RemoteHost
from sightline.bench.peers import zentorch
from sightline.bench.sections import layer, linear
from sightline.bench.session import BenchSettings, Session
from sightline.bench.text_table import section_table
from sightline.bench.timing import Budget
from sightline.bench.wholes import contest as contests
from sightline.bench.wholes.by_openvino import ByOpenVino
from sightline.bench.wholes.by_ort import ByOrt
from sightline.bench.wholes.by_sightline import BySightline, ByWay
from sightline.bench.wholes.by_torch import ByCompile, ByTorch
from sightline.bench.wholes.by_zentorch import ByZenTorch
from sightline.bench.wholes.case import TOLERANCE, WholeCase, apart
from sightline.bench.wholes.contest import Entrant, contest
from sightline.bench.wholes.layers import linear_case, self_attention_case
from sightline.bench.wholes.models import model_case, translation_training
from sightline.nn import Linear, SelfAttention
from sightline.products.ways import WAYS

TINY = BenchSettings("tiny", 1, Budget(0.0, least=2, most=2, sample=1e-6), (), 1e-4)
FORWARD = self_attention_case(2, 5, 8, 2, "float32", "forward")
CASES = [
    linear_case(3, 8, 4, "float32", "forward"),
    linear_case(3, 8, 4, "bfloat16", "with backward"),
    FORWARD,
    self_attention_case(2, 5, 8, 2, "float32", "with backward"),
    model_case(
        "translation", translation_training, "float32", "training step",
        batch=2, length=5, vocabulary=20, width=8, heads=2, layers=1,
    ),
]  # fmt: skip


class Negated(ByTorch):
    """Computes something else."""

    def turned(self, whole):
        return nn.Sequential(whole.module, _Negation())


class _Negation(nn.Module):
    def forward(self, x):
        return -x


class Broken(ByTorch):
    def turned(self, whole):
        raise RuntimeError("no kernel for this\nand a long story")


class Missing(ByTorch):
    packages = ("no_such_library",)


def held(case, **others):
    entrants = {"sightline": Entrant(BySightline()), "theirs": Entrant(ByTorch())}
    with Session(TINY) as session:
        row = contest(session, case, entrants | {k: Entrant(one) for k, one in others.items()}, "theirs")
    return row, session.notes


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.builder.split(':')[1]}-{case.direction}")
@pytest.mark.parametrize("contender", [ByTorch(), BySightline()], ids=["torch", "sightline"])
def test_right_results_pass(case, contender):
    _, outputs = contender.load(case, 1)
    assert apart(case, outputs) < TOLERANCE[case.dtype] / (1 if case.dtype == "bfloat16" else 100)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.builder.split(':')[1]}-{case.direction}")
def test_each_weight_counts(case):
    """A result is compared as far as the wrong weight shows in it."""
    whole = case.build()
    wrong = next(iter(whole.module.parameters()))
    with torch.no_grad():
        wrong.neg_()
    run = ByTorch().prepare(case, whole, 1)
    assert apart(case, [one.detach() for one in run.outputs(run.call())]) > TOLERANCE[case.dtype]


def test_a_case_is_the_same_wherever_it_is_built():
    case = FORWARD
    first, second = case.build(), replace(case).build()
    assert torch.equal(first.arguments[0], second.arguments[0])
    for one, other in zip(first.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(one, other)
    assert replace(case, dtype="bfloat16").build().arguments[0].dtype == torch.bfloat16
    assert torch.get_default_dtype() == torch.float32


def test_ours_is_ours():
    assert isinstance(BySightline().turned(CASES[0].build()), Linear)
    assert isinstance(BySightline().turned(FORWARD.build()), SelfAttention)


def test_flops_of_a_layer():
    assert linear_case(2, 3, 5, "float32", "forward").flops == 2 * 2 * 3 * 5
    projections, pairs = 2 * 4 * 10 * 8**2, 2 * 2 * 2 * 5**2 * 8
    assert FORWARD.flops == projections + pairs


def test_results_of_other_shapes_do_not_pass():
    _, (output,) = ByTorch().load(FORWARD, 1)
    assert apart(FORWARD, [output]) < 1e-5
    with pytest.raises(ValueError, match=r"gave shapes \[\[2, 4, 8\]\], expected \[\[2, 5, 8\]\]"):
        apart(FORWARD, [output[:, 1:]])
    with pytest.raises(ValueError, match=r"gave shapes \[\]"):
        apart(FORWARD, [])


def test_who_is_missing_wrong_or_broken_is_reported_and_not_timed():
    row, notes = held(FORWARD, missing=Missing(), wrong=Negated(), broken=Broken())
    entries = row["contenders"]
    assert entries["missing"]["status"] == "left out"
    assert entries["wrong"]["status"] == "wrong" and "ms" not in entries["wrong"]
    assert entries["broken"] == {"status": "failed", "why": "RuntimeError: no kernel for this"}
    assert row["best_peer"] == "theirs" and row["ms"] > 0 and row["x_error"] > 0
    assert list(notes["missing"]) == ["not installed: pip install no_such_library"]
    assert list(notes["wrong"]) == [
        f"wrong on {FORWARD} float32 forward: off by 2 of the norm",
    ]
    table = section_table(replace(layer.SECTION, contenders=tuple(entries)), [row], ["sdpa"])
    assert table.headings[-3:] == ["× theirs", "× wrong", "× broken"]
    assert table.rows[0][-2:] == ["wrong", "failed"]


def test_a_slow_one_is_timed_by_one_call(monkeypatch):
    monkeypatch.setattr(contests, "_PATIENCE", {"tiny": 0.0})
    row, _ = held(FORWARD)
    for one in row["contenders"].values():
        assert len(one["seconds"]) == 1 and one["ms"] > 0 and one["ratio"] > 0
    assert row["contenders"]["sightline"]["ratio"] == 1


def test_shares_of_the_peak_follow_the_ratios():
    row, _ = held(linear_case(64, 64, 64, "float32", "forward"))
    if "of_fma_peak" not in row:
        pytest.skip("no native core that measures the peak")
    theirs = row["contenders"]["theirs"]
    assert 0 < row["of_fma_peak"] < 2 and 0 < theirs["of_fma_peak"] < 2


@pytest.mark.slow
def test_libraries_take_part_if_they_were_chosen(monkeypatch):
    asked = []
    monkeypatch.setattr(ByOpenVino, "missing", lambda self: asked.append("openvino") or "not here")
    with Session(TINY) as session:
        contest(session, FORWARD, layer._ENTRANTS, "MultiheadAttention")
        assert not asked
    with Session(replace(TINY, peers=("openvino",))) as session:
        row = contest(
            session,
            FORWARD,
            {k: layer._ENTRANTS[k] for k in ("sightline", "MultiheadAttention", "openvino")},
            "MultiheadAttention",
        )
    assert asked == ["openvino"] and row["contenders"]["openvino"]["why"] == "not here"


def test_what_libraries_leave_out():
    backward, half = replace(FORWARD, direction="with backward"), replace(FORWARD, dtype="bfloat16")
    assert ByOrt().why_not(backward) == ByOpenVino().why_not(backward) == "no backward pass"
    assert ByOrt().why_not(half) == "no bfloat16 on the CPU"
    assert ByOpenVino().why_not(half) == ByZenTorch().why_not(half) == ""
    assert ByZenTorch().why_not(backward) == "it infers, and does not train"
    assert ByWay("float32").why_not(FORWARD) == "it is float32 already"
    assert ByWay("pytorch").why_not(half) == ""


def test_a_way_is_forced(monkeypatch):
    took = []
    way = WAYS["onednn"]
    if way.why_not(torch.float32):
        pytest.skip("no oneDNN here")

    def multiply(a, b, bias):
        took.append(a.shape)
        return way.multiply(a, b, bias)

    from sightline.products import rules

    monkeypatch.setattr(rules, "WAYS", {**WAYS, "onednn": way._replace(multiply=multiply)})
    case = linear_case(64, 128, 64, "float32", "with backward")
    ByWay("onednn").load(case, 1)
    assert len(took) == 3
    took.clear()
    ByWay("pytorch").load(case, 1)
    assert not took


def test_a_contender_in_a_process_of_its_own():
    host = RemoteHost("sightline.bench.wholes.by_torch:ByTorch", 1, {})
    try:
        assert apart(FORWARD, host.load(FORWARD)) < 1e-5
        assert host.time(1).wall > 0
    finally:
        host.close()


@pytest.mark.parametrize(
    "content, reason",
    [
        (None, "not installed: pip install zentorch"),
        pytest.param(
            "raise ImportError('built for another PyTorch')",
            "cannot be imported: ImportError: built for another PyTorch",
            marks=pytest.mark.slow,
        ),
        pytest.param("import os; os._exit(3)", "cannot be imported: exit code 3", marks=pytest.mark.slow),
        ("", ""),
    ],
)  # fmt: skip
def test_zentorch_is_left_out_where_it_cannot_be_imported(monkeypatch, tmp_path, content, reason):
    if content is not None:
        (tmp_path / "zentorch.py").write_text(content)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    elif zentorch.ZenTorch().missing() == "":
        pytest.skip("it is installed")
    zentorch._cannot_be_imported.cache_clear()
    try:
        assert zentorch.ZenTorch().missing() == ByZenTorch().missing() == reason
    finally:
        zentorch._cannot_be_imported.cache_clear()
    assert "zentorch" not in sys.modules


def test_every_way_has_a_column():
    assert set(linear.SECTION.contenders) == {"sightline", "F.linear", *(f"way {name}" for name in WAYS)}


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["forward", "with backward"])
def test_compiled(direction):
    case: WholeCase = self_attention_case(2, 5, 8, 2, "float32", direction)
    one = ByCompile()
    _, outputs = one.load(case, 1)
    assert apart(case, outputs) < 1e-5
    one.forget()


@pytest.mark.slow
@pytest.mark.parametrize("contender", [ByOrt, ByOpenVino])
def test_exported(contender):
    if contender().missing():
        pytest.skip(contender().missing())
    with Session(TINY) as session:
        host = session.seat(contender(), f"{contender.__module__}:{contender.__qualname__}")
        assert apart(FORWARD, host.load(FORWARD)) < 1e-5

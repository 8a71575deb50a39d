"""Which way is taken: forced, remembered, measured once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import sightline
from sightline.products import choice, linear, measurement, memory
from sightline.products.shapes import FORMS, ProductClass, example, sketch
from sightline.products.ways import DTYPES, WAYS


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """Nothing known, and a folder of its own to remember in."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choice, "_ways", {})
    monkeypatch.setattr(choice, "_recalled", None)
    monkeypatch.setattr(choice, "_everywhere", lambda: "auto")


def forget() -> None:
    """As in the next process."""
    choice._ways.clear()
    choice._recalled = None


@pytest.fixture
def measured(monkeypatch):
    """The classes that were measured; the answer is always float32."""
    classes = []
    monkeypatch.setattr(choice, "fastest", lambda of: classes.append(of) or "float32")
    return classes


def layer(rows: int = 200, dtype: torch.dtype = torch.bfloat16, gradients: bool = False) -> torch.Tensor:
    x, weight = torch.randn(rows, 256).to(dtype), torch.randn(256, 256).to(dtype)
    return linear(x.requires_grad_(gradients), weight)


def test_a_class_is_measured_once_and_remembered(measured):
    layer(), layer(300), layer()
    assert measured == [ProductClass("forward", torch.bfloat16, "many", "large")]
    layer(gradients=True)
    assert [of.form for of in measured] == list(FORMS)
    layer(4), layer(7)
    assert len(measured) == 4
    (machine,) = json.loads(memory.path().read_text()).values()
    assert machine["forward bfloat16 many large"] == "float32"
    forget()
    layer(gradients=True), layer(4)
    assert len(measured) == 4


def test_settings_by_which_libraries_multiply_otherwise_are_measured_by_themselves(measured, monkeypatch):
    layer()
    for name in ("MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.setenv(name, "AVX2")
        forget()
        layer()
    assert len(measured) == 3
    monkeypatch.delenv("MKL_ENABLE_INSTRUCTIONS")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    forget()
    layer()
    assert len(measured) == 3


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 3}', "\x00\xff"])
def test_a_broken_memory_is_made_anew(measured, content):
    memory.path().parent.mkdir(parents=True)
    memory.path().write_bytes(content.encode("latin-1"))
    layer()
    assert len(measured) == 1 and json.loads(memory.path().read_text())


def test_unknown_ways_in_the_memory_do_not_count(measured):
    layer()
    known = memory.path().read_text()
    for other in ("faster", "onednn" if WAYS["onednn"].why_not(torch.bfloat16) else "none"):
        memory.path().write_text(known.replace('"float32"', f'"{other}"'))
        forget()
        layer()
    assert len(measured) == 3


def test_where_nothing_can_be_written_each_process_measures(measured, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    layer()
    assert len(measured) == 1
    assert not (tmp_path / "cache").exists()


def test_measuring_leaves_the_threads_as_they_are():
    before = torch.get_num_threads()
    layer()
    assert torch.get_num_threads() == before


def test_forced(measured):
    with sightline.product("pytorch"):
        layer()
    assert not measured
    with sightline.product("pytorch"), sightline.product("auto"):
        layer()
    assert measured
    unknown = pytest.raises(
        ValueError, match="product: there is no way 'mkl' to multiply; known: auto, pytorch"
    )
    with unknown, sightline.product("mkl"):
        pass
    with sightline.product("float32"):  # leaves float32 to PyTorch
        assert layer(dtype=torch.float32).dtype == torch.float32
    for dtype in DTYPES:
        reason = WAYS["onednn"].why_not(dtype)
        if reason is not None:
            with (
                pytest.raises(ValueError, match="product: 'onednn' was asked for"),
                sightline.product("onednn"),
            ):
                layer(dtype=dtype)


def test_measuring_answers_for_every_class_and_draws_no_numbers():
    state = torch.get_rng_state()
    for form in FORMS:
        for dtype in DTYPES:
            assert measurement.fastest(ProductClass(form, dtype, "some", "small")) in WAYS
    assert torch.equal(torch.get_rng_state(), state)


def _measured_as(monkeypatch, times):
    """Each way takes what ``times`` says of it, or 1; ``times`` may be a function, asked at each look."""

    def measured(products):
        said = times() if callable(times) else times
        return {name: said.get(name, 1.0) for name in products}

    monkeypatch.setattr(measurement, "_measured", measured)


def test_pytorchs_own_stays_unless_another_is_clearly_faster(monkeypatch):
    of = ProductClass("forward", torch.bfloat16, "many", "large")
    times = {"pytorch": 1.0, "onednn": 0.95, "float32": 0.95, "native": 0.95}
    _measured_as(monkeypatch, times)
    assert measurement.fastest(of) == "pytorch"
    times["float32"] = 0.8
    assert measurement.fastest(of) == "float32"


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        ((4.0, 0.5), (1.0, 0.5), "onednn"),
        ((4.0, 0.99), (1.0, 0.99), "pytorch"),  # PyTorch's own was disturbed
        ((1.0, 0.99), (1.0, 0.5), "onednn"),  # the other was
        ((1.0, 1.01), (1.0, 0.5), "pytorch"),  # behind at once: no second look
    ],
)
def test_the_least_time_of_two_looks_decides(monkeypatch, first, second, wanted):
    of = ProductClass("forward", torch.float32, "many", "large")
    if WAYS["onednn"].why_not(torch.float32):
        pytest.skip("there is one way only")
    looks = iter([first, second])
    _measured_as(
        monkeypatch, lambda: {**dict(zip(("pytorch", "onednn"), next(looks), strict=True)), "native": 9.0}
    )
    assert measurement.fastest(of) == wanted


def test_onednns_gradients_of_float32_have_to_be_faster_still(monkeypatch):
    _measured_as(monkeypatch, {"onednn": 0.8})
    for form, dtype, rows, wanted in (
        ("forward", torch.float32, "many", "onednn"),
        ("grad_weight", torch.float32, "many", "pytorch"),
        ("grad_weight", torch.float32, "some", "onednn"),
        ("grad_weight", torch.bfloat16, "many", "onednn"),
    ):
        if WAYS["onednn"].why_not(dtype) is None:
            assert measurement.fastest(ProductClass(form, dtype, rows, "large")) == wanted


def test_a_sketch_is_small():
    for rows in ("one", "few", "some", "many"):
        for size in ("small", "large"):
            of = ProductClass("forward", torch.bfloat16, rows, size)
            for one in zip(sketch(of), example(of), strict=True):
                assert one[0] <= one[1]
            assert torch.tensor(sketch(of)).prod() <= 32 * 128 * 128


def test_info_says_what_is_known(measured):
    assert sightline.info()["linear bfloat16"] == "? forward, ? and ? for gradients"
    layer(gradients=True)
    facts = sightline.info()
    assert facts["linear bfloat16"] == "float32 forward, float32 and float32 for gradients"
    assert str(Path("sightline") / "products.json") in facts["linear layers"]
    with sightline.product("pytorch"):
        assert sightline.info()["linear layers"] == "pytorch, as asked for"


def test_an_unknown_way_in_the_environment_is_one_line(monkeypatch, capsys):
    from sightline.cli import main

    monkeypatch.undo()
    choice._everywhere.cache_clear()
    monkeypatch.setenv("SIGHTLINE_PRODUCT", "mkl")
    try:
        assert main(["info"]) != 0
        told = capsys.readouterr().err
        assert "SIGHTLINE_PRODUCT: there is no way 'mkl' to multiply; known: auto, pytorch" in told
        assert "Traceback" not in told
    finally:
        monkeypatch.undo()
        choice._everywhere.cache_clear()

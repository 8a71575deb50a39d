"""Products with packed weights: exact to rounding, for any rows, and never with a weight of before."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F

import sightline
from sightline.core import library
from sightline.nn import Linear
from sightline.products import PackedWeight, choice, layer, linear, measurement, memory, native
from sightline.products.packings import PACKINGS
from sightline.products.shapes import ProductClass
from sightline.products.ways import DTYPES

ABLE = [(name, dtype) for name, one in PACKINGS.items() for dtype in DTYPES if one.why_not(dtype) is None]
IDS = [f"{name}-{str(dtype).removeprefix('torch.')}" for name, dtype in ABLE]
SIZES = [
    (1, 1, 1), (3, 5, 7), (12, 32, 384), (13, 33, 385), (25, 300, 800), (100, 257, 1000), (7, 16, 1),
    (1, 768, 70), (31, 600, 40), (9, 1100, 33), (400, 50, 1700), (193, 150, 769),
]  # fmt: skip


@pytest.fixture(params=ABLE, ids=IDS)
def packing(request):
    return request.param


@pytest.fixture
def always(packing, monkeypatch):
    """Layers take this packing wherever they may."""
    name, dtype = packing
    why_not = PACKINGS[name].why_not
    monkeypatch.setattr(layer, "choose_packing", lambda dtype, *sizes: None if why_not(dtype) else name)
    monkeypatch.setattr(layer, "_NO_MATTER", dict.fromkeys(DTYPES, 1))
    return dtype


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm().clamp(min=1e-30))


@pytest.mark.parametrize("rows, columns, depth", SIZES)
@pytest.mark.parametrize("layout", ["rows", "columns", "apart"])
def test_errors_are_at_most_twice_pytorchs(packing, rows, columns, depth, layout):
    name, dtype = packing
    a, weight = torch.randn(rows, depth).to(dtype), torch.randn(columns, depth).to(dtype)
    if layout == "columns":
        weight = weight.t().contiguous().t()
    elif layout == "apart":
        a = torch.stack([a, a], -1)[..., 0]
        weight = torch.stack([weight, weight], -1)[..., 0]
    multiply = PACKINGS[name].pack(weight)
    for bias in (None, torch.randn(columns).to(dtype)):
        exact = F.linear(a.double(), weight.double(), None if bias is None else bias.double())
        theirs = off(F.linear(a, weight, bias), exact)
        found = multiply(a, bias)
        assert found.dtype == dtype and found.shape == (rows, columns)
        assert off(found, exact) <= 2 * theirs + torch.finfo(dtype).eps


@pytest.mark.parametrize("level", library.levels())
def test_a_row_is_the_same_in_any_batch_and_on_any_threads(level, monkeypatch):
    """The native core's sums depend on the depth alone."""
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    a, weight, bias = torch.randn(230, 1700), torch.randn(270, 1700), torch.randn(270)
    multiply = native.pack(weight)
    whole = multiply(a, bias)
    assert off(whole, F.linear(a.double(), weight.double(), bias.double())) < 1e-6
    for first, rows in ((0, 1), (5, 2), (17, 13), (40, 64), (20, 200)):
        assert torch.equal(multiply(a[first : first + rows], bias), whole[first : first + rows])
    before = torch.get_num_threads()
    try:
        for threads in (2, 3, 7):
            torch.set_num_threads(threads)
            assert torch.equal(multiply(a, bias), whole)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("special", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_numbers_that_are_none_stay_where_they_are(special):
    a, weight = torch.randn(14, 50), torch.randn(40, 50)
    a[3, 7] = special
    weight[33, 2] = special
    found, wanted = native.pack(weight)(a, None), F.linear(a, weight)
    assert torch.equal(found.isnan(), wanted.isnan()) and torch.equal(found.isinf(), wanted.isinf())


@pytest.mark.parametrize("rows, columns, depth", [(0, 5, 3), (2, 0, 3), (2, 5, 0)])
def test_empty(rows, columns, depth):
    a, weight, bias = torch.ones(rows, depth), torch.ones(columns, depth), torch.ones(columns)
    assert torch.equal(native.pack(weight)(a, bias), F.linear(a, weight, bias))


def test_other_dtypes_are_refused():
    with pytest.raises(ValueError, match="multiplies float32, not bfloat16"):
        native.pack(torch.ones(3, 4, dtype=torch.bfloat16))


CHANGES = {
    "optimizer": lambda one: torch.optim.SGD([one.weight], 1.0).step(),
    "state_dict": lambda one: one.load_state_dict({name: -value for name, value in one.state_dict().items()}),
    "copy": lambda one: one.weight.copy_(torch.ones_like(one.weight)),
    "data": lambda one: setattr(one.weight, "data", one.weight.data * 2),
    "twice": lambda one: [setattr(one.weight, "data", one.weight.data.clone() + k) for k in (1, 2)],
    "another": lambda one: setattr(one, "weight", torch.nn.Parameter(torch.ones_like(one.weight))),
    "dtype": lambda one: one.to(torch.float32 if one.weight.dtype != torch.float32 else torch.bfloat16),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_followed(always, change):
    one = Linear(48, 33).to(always)
    one.packed = PackedWeight()
    one.weight.grad = torch.ones_like(one.weight)
    x = torch.randn(20, 48)
    with torch.no_grad():
        one(x.to(always))
        for _ in range(2):
            CHANGES[change](one)
            x = x.to(one.weight.dtype)
            torch.testing.assert_close(one(x), F.linear(x, one.weight, one.bias), rtol=2e-2, atol=2e-2)


def test_what_pytorch_does_not_count_is_for_repack(always):
    model = torch.nn.Sequential(torch.nn.Linear(48, 33)).to(always)
    x = torch.randn(20, 48).to(always)
    with sightline.accelerate(model, packed=True) as acceleration, torch.no_grad():
        assert acceleration.packed == ("0",) and "packed weights: 1" in str(acceleration)
        before = model(x)
        model[0].weight.data += 1
        acceleration.repack()
        after = model(x)
        torch.testing.assert_close(after, F.linear(x, model[0].weight, model[0].bias), rtol=2e-2, atol=5e-2)
        assert not torch.allclose(before, after, atol=0.1)
    assert type(model[0]) is torch.nn.Linear and "packed" not in vars(model[0])


def test_with_gradients_nothing_is_packed(always, monkeypatch):
    one = Linear(48, 33).to(always)
    one.packed = PackedWeight()
    monkeypatch.setattr(PackedWeight, "product", None)
    one(torch.randn(20, 48).to(always)).sum().backward()
    assert one.weight.grad is not None


def test_copies_and_pickles_begin_with_nothing(always):
    model = torch.nn.Sequential(torch.nn.Linear(48, 33)).to(always)
    sightline.accelerate(model, packed=True)
    x = torch.randn(20, 48).to(always)
    with torch.no_grad():
        wanted = model(x)
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert other[0].packed is not model[0].packed and other[0].packed._packed is None
            assert torch.equal(other(x), wanted)
            other[0].weight.zero_()
            assert torch.equal(other(x), other[0].bias.expand(20, -1))
            assert torch.equal(model(x), wanted)
    assert list(model.state_dict()) == ["0.weight", "0.bias"]


def test_inference_mode_and_transforms(always):
    one = Linear(48, 33).to(always)
    one.packed = PackedWeight()
    x = torch.randn(4, 5, 48).to(always)
    with torch.no_grad():
        wanted = one(x)
    with torch.inference_mode():
        assert torch.equal(one(x), wanted)
        weight = torch.randn(33, 48, dtype=always)  # whose changes nobody counts
        for factor in (1, 3):
            found = linear(x, weight.mul_(factor), None, one.packed)
            torch.testing.assert_close(found, F.linear(x, weight), rtol=2e-2, atol=5e-2)
    with torch.no_grad():
        mapped = torch.func.vmap(one)(x)
    torch.testing.assert_close(mapped, wanted, rtol=2e-2, atol=2e-2)


def test_autocast_takes_the_weight_as_it_casts_it(always):
    one = Linear(48, 33)
    one.packed = PackedWeight()
    x = torch.randn(20, 48)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert one(x).dtype == torch.bfloat16
        torch.testing.assert_close(one(x), F.linear(x, one.weight, one.bias), rtol=2e-2, atol=2e-2)


def test_compiled(always):
    one = Linear(48, 33).to(always)
    one.packed = PackedWeight()
    x = torch.randn(20, 48).to(always)
    with torch.no_grad():
        found = torch.compile(one, backend="eager", fullgraph=True)(x)
    torch.testing.assert_close(found, F.linear(x, one.weight, one.bias).detach(), rtol=2e-2, atol=2e-2)


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, value in (
        ("_ways", {}),
        ("_packings", {}),
        ("_recalled", None),
        ("_everywhere", lambda: "auto"),
    ):
        monkeypatch.setattr(choice, name, value)


def test_whether_it_pays_is_measured_once_and_remembered(fresh, monkeypatch):
    asked = []
    monkeypatch.setattr(choice, "fastest", lambda of: "pytorch")
    monkeypatch.setattr(choice, "fastest_packing", lambda of, way: asked.append(of) or "native")
    for _ in range(2):
        assert choice.choose_packing(torch.float32, 60, 256 * 256) == "native"
        assert choice.choose_packing(torch.float32, 50, 256 * 256) == "native"
        choice._packings.clear()
        choice._recalled = None
    assert asked == [ProductClass("packed", torch.float32, "some", "large")]
    with sightline.product("pytorch"):
        assert choice.choose_packing(torch.float32, 60, 256 * 256) is None
    known = memory.path().read_text()
    memory.path().write_text(known.replace('"native"', '"faster"'))
    choice._packings.clear()
    choice._recalled = None
    choice.choose_packing(torch.float32, 60, 256 * 256)
    assert len(asked) == 2


def test_it_has_to_be_clearly_faster_twice(fresh, monkeypatch):
    of = ProductClass("packed", torch.float32, "some", "small")
    for looks, wanted in (((0.9, 0.9), "native"), ((0.9, 0.99), "none"), ((1.2, 0.5), "none")):
        seconds = iter(looks)
        monkeypatch.setattr(
            measurement,
            "_measured",
            lambda products, seconds=seconds: {
                **dict.fromkeys(products, 9.0),
                "none": 1,
                "native": next(seconds),
            },
        )
        assert measurement.fastest_packing(of, "pytorch") == wanted
    monkeypatch.undo()
    assert measurement.fastest_packing(of, "pytorch") in ("none", *PACKINGS)

"""The Triton kernels in Triton's interpreter, on the CPU: every readout, mask and option against float64.

Half precision is float16 here: the interpreter multiplies the bit patterns of bfloat16 (triton #11584).
"""

from __future__ import annotations

import math
import os

import pytest
import torch

if os.environ.get("SIGHTLINE_GPU_OFFLINE") != "1" or os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("make test-gpu-offline runs this", allow_module_level=True)
pytest.importorskip("triton", reason="make test-gpu-offline installs Triton")

import sightline
from cases import Case, close
from sightline.backends.contract import FUNCTIONS, PooledRegion, Request, Summand
from sightline.backends.plain import Plain
from sightline.backends.triton import given, passes
from sightline.backends.triton.wing import Triton

from .interpreting import patched_once

# NumPy, in which the interpreter computes, tells of each NaN, also where it is left out afterwards.
pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")

B, G, GROUP, N, M = 2, 1, 2, 37, 45
H = G * GROUP


@pytest.fixture(autouse=True, scope="module")
def _quick():
    with patched_once():
        yield


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bools(*shape, seed=0, share=0.6):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def hiding(*shape):
    return random(*shape, seed=5).masked_fill(bools(*shape, seed=6, share=0.3), -math.inf)


OPTIONS = {
    "none": {},
    "causal": {"mask": sightline.causal()},
    "causal, top left": {"mask": sightline.causal("top-left")},
    "causal, an offset each": {"mask": sightline.causal(torch.tensor([3, -2]))},
    "window": {"mask": sightline.window(5, 3)},
    "one-sided window": {"mask": sightline.window(None, 0, align=2)},
    "prefix": {"mask": sightline.prefix(11)},
    "lengths with a 0": {"mask": sightline.lengths(torch.tensor([29, 0]))},
    "two ranges": {"mask": sightline.prefix(3) | sightline.window(6, 0)},
    "a range of each head": {"mask": sightline.ranges(*(lambda low: (low, low + 9))((random(B, H, N, seed=9) * 9 + 15).long()))},
    "documents": {"mask": sightline.documents(torch.arange(N) // 10, torch.arange(M) // 12)},
    "dense": {"mask": bools(B, H, N, M)},
    "dense that broadcasts": {"mask": bools(1, 1, N, M) },
    "dense of keys and ranges": {"mask": sightline.dense(bools(B, 1, 1, M)) & sightline.causal()},
    "bias": {"bias": random(B, H, N, M)},
    "bias that broadcasts": {"bias": random(H, 1, M)},
    "bias that hides": {"bias": hiding(1, H, N, M), "mask": sightline.causal()},
    "alibi": {"bias": sightline.alibi(random(H).abs())},
    "alibi of each entry": {"bias": sightline.alibi(random(B, H).abs(), torch.tensor([2, -3]))},
    "a table of each head": {"bias": sightline.relative(random(H, 9))},
    "one table, top left": {"bias": sightline.relative(random(1, 5), align="top-left")},
    "a table that hides": {"bias": sightline.relative(hiding(H, 15))},
    "scale": {"scale": -0.3},
    "softcap": {"softcap": 0.7},
    "softcap far from its bend": {"softcap": 50.0},
    "sinks": {"sinks": random(H), "mask": sightline.causal(-3)},
    "all": {
        "mask": sightline.causal() & sightline.lengths(torch.tensor([31, 17])), "softcap": 5.0, "sinks": random(H),
        "bias": sightline.alibi(random(H).abs()), "scale": 0.5,
    },
}  # fmt: skip
TOLERANCE = {torch.float32: 3e-5, torch.float16: 3e-5}


def far_from_0(number):
    """A bias that hides every key from each third query by a number instead of -inf, as padding often is."""
    bias = torch.zeros(1, 1, N, M)
    bias[:, :, ::3] = number
    return bias


def case(options, dtype=torch.float32, width=16, n=N, m=M):
    query, key = random(B, H, n, width, seed=1), random(B, G, m, width, seed=2)
    return Case(query.to(dtype), key.to(dtype), random(B, G, m, 4, seed=3).to(dtype), options)


def of(one):
    """The problem, its lse as a forward pass would give it, and float64's stages."""
    problem = one.matrix().problem
    _, lse = Plain().forward(problem)
    return problem, lse, one.reference()


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("number", [-1e4, -12345.6, -1e6, -1e9, -1e30, torch.finfo(torch.float32).min])
def test_rows_far_from_0(number, sinks):
    """Each is read in one way: its weights sum to 1, whoever gave the lse, and whatever float32 holds of it."""
    problem = case({"bias": far_from_0(number)} | ({"sinks": random(H)} if sinks else {})).matrix().problem
    _, lse = Plain().forward(problem)
    lse = lse.float().double()  # as a kernel of another gives it
    asked = [Request("entropy"), Request("received"), Request("max"), Request("topk", k=M)]
    found = passes.readouts(problem, lse, asked)
    weights = Plain().product(problem, lambda: lse, torch.eye(M).expand(1, 1, M, M))
    shares = weights.sum(-1)  # without that of sinks
    assert sinks or (shares - 1).abs().max() < 2e-6
    close(found["topk"].values.sum(-1), shares, 3e-6)
    close(found["max"].values, weights.amax(-1), 2e-3 if number > -1e5 else 1e-6)
    close(found["received"].sum(-1), shares.sum(-1), 2e-6 * N)
    close(found["entropy"], -torch.special.xlogy(weights, weights).sum(-1), 2e-3)
    close(passes.summed(problem, lse, Summand("weight"), "keys"), shares, 3e-6)
    close(passes.product(problem, lse, torch.ones(1, 1, M, 1))[..., 0], shares, 3e-6)
    close(passes.transposed_product(problem, lse, torch.ones(1, 1, N, 1))[..., 0], found["received"], 2e-5)
    region = PooledRegion(slice(0, N), slice(0, M), 1, 1, "sum")
    close(passes.pool(problem, lse, region)[..., 0, 0], shares.sum(-1), 1e-4)


@pytest.fixture(params=[torch.float32, torch.float16], ids=str)
def dtype(request):
    return request.param


@pytest.mark.parametrize("name", OPTIONS)
def test_every_readout(name, dtype):
    one = case(OPTIONS[name], dtype)
    problem, lse, wanted = of(one)
    weights, masked, tolerance = wanted.weights, wanted.masked, TOLERANCE[dtype]
    segments = torch.arange(M) % 3
    requests = [
        Request("entropy"), Request("received"), Request("max"), Request("max_score"), Request("topk", k=5),
        Request("distance", align=2), Request("mass", segments=segments),
    ]  # fmt: skip
    found = passes.readouts(problem, lse, requests)
    assert list(found) == [request.name for request in requests]
    close(found["entropy"], -torch.special.xlogy(weights, weights).sum(-1), tolerance * 10)
    close(found["received"], weights.sum(2), tolerance)
    close(found["max_score"], masked.amax(-1), tolerance)
    for values, k in ((found["max"], 1), (found["topk"], 5)):
        best = masked.topk(k, -1)
        top = weights.gather(-1, best.indices)
        close(values.values if k > 1 else values.values[..., None], top, tolerance)
        indices = values.indices if k > 1 else values.indices[..., None]
        assert torch.equal(indices == -1, best.values == -math.inf)
        there = masked.gather(-1, indices.clamp(min=0)).where(indices >= 0, -math.inf)
        close(there, best.values, tolerance)  # equal scores may come in another order
        assert (indices.sort(-1).values.diff(dim=-1) != 0)[(indices >= 0).all(-1)].all()
    step = (torch.arange(M) - torch.arange(N)[:, None] - 2).abs()
    close(found["distance"], (weights * step).sum(-1), tolerance * 40)
    one_hot = torch.nn.functional.one_hot(segments).double()
    close(found["mass"], weights @ one_hot, tolerance)


@pytest.mark.parametrize("name", OPTIONS)
def test_products_pictures_and_the_lse(name, dtype):
    one = case(OPTIONS[name], dtype)
    problem, lse, wanted = of(one)
    weights, tolerance = wanted.weights, TOLERANCE[dtype]
    close(passes.row_lse(problem), wanted.lse, tolerance)
    by_keys, by_queries = random(1, H, M, 35), random(B, 1, N, 3)
    close(passes.product(problem, lse, by_keys), weights @ by_keys.double(), tolerance * 4)
    close(
        passes.transposed_product(problem, lse, by_queries), weights.mT @ by_queries.double(), tolerance * 4
    )
    seen = wanted.masked != -math.inf
    largest = weights.where(seen, -1).amax(2)
    close(passes.key_largest(problem, lse), largest, tolerance)
    for region in (
        PooledRegion(slice(0, N), slice(0, M), 2, 3, "mean"),
        PooledRegion(slice(5, 20), slice(7, 9), 1, 3, "max"),  # more cells than columns
        PooledRegion(slice(5, 9), slice(7, 40), 2, 1, "sum"),
    ):
        close(passes.pool(problem, lse, region), Plain().pool(problem, lse, region), tolerance)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("over", ["keys", "queries"])
def test_every_sum(function, over):
    one = case(OPTIONS["all"])
    problem, lse, _ = of(one)
    summand = Summand(function, 0.1)
    close(passes.summed(problem, lse, summand, over), Plain().summed(problem, lse, summand, over), 2e-4)


@pytest.mark.parametrize("width", [24, 64, 80, 128, 256])
def test_every_width_of_a_head(width, dtype):
    one = case(OPTIONS["causal"], dtype, width, n=19, m=21)
    problem, lse, wanted = of(one)
    found = passes.readouts(problem, lse, [Request("entropy"), Request("received")])
    close(found["received"], wanted.weights.sum(2), TOLERANCE[dtype])
    close(found["entropy"], -torch.special.xlogy(wanted.weights, wanted.weights).sum(-1), 3e-4)


@pytest.mark.parametrize("layout", ["heads inside", "spare room", "last axis strided", "broadcast"])
def test_every_layout(layout):
    one = case(OPTIONS["causal"])
    query = {
        "heads inside": one.query.transpose(1, 2).contiguous().transpose(1, 2),
        "spare room": torch.nn.functional.pad(one.query, (1, 2, 3, 0))[:, :, 3:, 1:-2],
        "last axis strided": one.query.mT.contiguous().mT,
        "broadcast": one.query[:1].expand(B, -1, -1, -1),
    }[layout]
    problem, lse, wanted = of(Case(query, one.key, one.value, one.options))
    close(passes.key_sums(problem, lse, Summand("weight")), wanted.weights.sum(2), 3e-5)


@pytest.mark.parametrize("n, m", [(1, 1), (1, 70), (70, 1), (64, 64), (65, 129), (3, 2), (0, 5), (5, 0)])
def test_every_length(n, m, dtype):
    one = case({"mask": sightline.causal()}, dtype, n=n, m=m)
    problem, lse, wanted = of(one)
    found = passes.readouts(problem, lse, [Request("entropy"), Request("received"), Request("max")])
    close(found["received"], wanted.weights.sum(2), TOLERANCE[dtype])
    close(found["entropy"], -torch.special.xlogy(wanted.weights, wanted.weights).sum(-1), 3e-4)
    assert bool((found["max"].indices == -1).all()) == (not m or not n)


@pytest.mark.parametrize("k", [1, 2, 13, 64])
def test_every_k(k):
    problem, lse, wanted = of(case(OPTIONS["causal"], n=11, m=70))
    found = passes.readouts(problem, lse, [Request("topk", k=k)])["topk"]
    best = wanted.masked.topk(k, -1)
    close(found.values, wanted.weights.gather(-1, best.indices), 3e-5)
    assert torch.equal(found.indices, best.indices.masked_fill(best.values == -math.inf, -1))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("options", ["causal", "dense of keys and ranges"])
def test_what_is_hidden_has_no_influence(number, options):
    given_options = (
        OPTIONS[options]
        if options == "causal"
        else {"mask": bools(1, 1, 1, M) & torch.ones(N, 1, dtype=torch.bool)}
    )
    one = case(given_options)
    problem, lse, wanted = of(one)
    hidden = (wanted.weights == 0).all(0).all(0).all(0)
    if options == "causal":
        hidden = torch.arange(M) > M - 1 - 5  # seen by the last rows alone
        rows = slice(0, N - 6)
    else:
        rows = slice(0, N)
    key = one.key.clone()
    key[:, :, hidden] = number
    spoilt = Case(one.query, key, one.value, one.options).matrix().problem
    found = passes.readouts(spoilt, lse, [Request("entropy"), Request("max_score"), Request("topk", k=3)])
    clean = passes.readouts(problem, lse, [Request("entropy"), Request("max_score"), Request("topk", k=3)])
    assert torch.equal(found["entropy"][:, :, rows], clean["entropy"][:, :, rows])
    assert torch.equal(found["max_score"][:, :, rows], clean["max_score"][:, :, rows])
    assert torch.equal(found["topk"].indices[:, :, rows], clean["topk"].indices[:, :, rows])
    if options != "causal":
        x = random(1, 1, M, 3)
        x[:, :, hidden] = number
        found_product = Triton().product(spoilt, lambda: lse, x)
        assert found_product.isfinite().all()


def test_a_nan_that_is_seen_reaches_its_row():
    one = case({"mask": sightline.causal()})
    query = one.query.clone()
    query[0, 0, 20] = math.nan
    problem = Case(query, one.key, one.value, one.options).matrix().problem
    _, lse = Plain().forward(problem)
    names = ("entropy", "max_score", "max", "distance")
    found = passes.readouts(problem, lse, [Request(name) for name in names])
    plain = Plain().readouts(problem, lse, [Request(name) for name in names])
    for name in names:
        values, wanted = (one[name].values if name == "max" else one[name] for one in (found, plain))
        assert torch.equal(values.isnan(), wanted.isnan()), name


def test_logits_far_from_0():
    """The lse is large, and every weight as exact as its logit."""
    one = case({"bias": torch.full((1, 1, 1, 1), 3000.0)})
    problem, lse, wanted = of(one)
    close(passes.key_sums(problem, lse, Summand("weight")), wanted.weights.sum(2), 5e-3)
    assert float((passes.summed(problem, lse, Summand("weight"), "keys") - 1).abs().max()) < 2e-3


@pytest.mark.parametrize("word", given.PRECISIONS)
def test_precisions(monkeypatch, word):
    monkeypatch.setenv("SIGHTLINE_TRITON_PRECISION", word)
    assert given.precision() == word


def test_an_unknown_precision(monkeypatch):
    monkeypatch.setenv("SIGHTLINE_TRITON_PRECISION", "fast")
    with pytest.raises(
        ValueError, match="SIGHTLINE_TRITON_PRECISION: 'fast': must be one of ieee, tf32x3, tf32"
    ):
        given.precision()

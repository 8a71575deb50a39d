"""FlexAttention as we call it, without a GPU: PyTorch's own, uncompiled on the CPU, against float64.

What its compiler makes of it on a card is not tested here.
"""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import replace
from unittest import mock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import flex_attention as pytorchs

import sightline
from cases import Case, close
from sightline.backends.cuda import Cuda, flex, trust
from sightline.backends.cuda.blocks import SIZE, blocks_of
from sightline.backends.cuda.flex import Flex
from sightline.backends.plain import Plain
from sightline.backends.problem import Problem

pytestmark = pytest.mark.skipif(
    not hasattr(pytorchs, "AuxRequest"), reason="this PyTorch has no FlexAttention that gives an lse"
)

B, G, H, N, M = 2, 2, 4, 9, 13
CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _uncompiled(monkeypatch):
    """As it is, with gradients, which PyTorch gives on the CPU but does not promise; and nobody else is asked."""
    trust.forget()
    monkeypatch.setattr(pytorchs, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr(pytorchs, "_validate_device", lambda *given: None)
    monkeypatch.setattr(flex, "compiled", lambda: flex.attend)
    monkeypatch.setattr("sightline.backends.triton.wing.missing", lambda: None)
    monkeypatch.setattr("sightline.backends.cuda.wing.KERNELS", (Flex(),))
    yield
    trust.forget()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bools(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(3)) < 0.6


def case(dtype=torch.float32, width=16, n=N, m=M, heads=G, **options):
    query, key = random(B, H, n, width, seed=1).to(dtype), random(B, heads, m, width, seed=2).to(dtype)
    return Case(query, key, random(B, heads, m, width, seed=3).to(dtype), options)


def many_ranges():
    """Every other key of 18."""
    found = sightline.ranges(torch.zeros(N, dtype=torch.long), torch.ones(N, dtype=torch.long))
    for start in range(2, 18, 2):
        found = found | sightline.ranges(torch.full((N,), start), torch.full((N,), start + 1))
    return found


OPTIONS = {
    "none": {},
    "causal and lengths": {"mask": sightline.causal() & sightline.lengths(torch.tensor([M, 6]))},
    "an entry that sees nothing": {"mask": sightline.lengths(torch.tensor([M, 0]))},
    "a union": {"mask": sightline.prefix(3) | sightline.window(2, 0)},
    "a range of each head": {"mask": sightline.ranges(random(B, H, N).abs().long(), random(B, H, N).abs().long() + 5)},
    "dense": {"mask": bools(B, H, N, M)},
    "dense of keys and ranges": {"mask": sightline.dense(bools(B, 1, 1, M)) & sightline.causal()},
    "bias": {"bias": random(B, H, N, M)},
    "bias that broadcasts": {"bias": random(H, 1, M)},
    "bias that hides": {"bias": random(1, 1, N, M).masked_fill(~bools(1, 1, N, M), -math.inf)},
    "alibi": {"bias": sightline.alibi(random(H).abs())},
    "alibi of each entry": {"bias": sightline.alibi(random(B, H).abs(), torch.tensor([2, -3]))},
    "a table of each head": {"bias": sightline.relative(random(H, 9))},
    "one table, top left": {"bias": sightline.relative(random(1, 5), align="top-left")},
    "softcap": {"softcap": 0.7, "scale": 0.9},
    "sinks": {"sinks": torch.tensor([0.5, -1.0, 4.0, -math.inf]), "mask": sightline.causal(-3)},
    "all": {
        "mask": sightline.prefix(2) | sightline.window(3, 0), "softcap": 2.0, "sinks": random(H),
        "bias": sightline.alibi(random(H).abs()), "scale": 0.5,
    },
}  # fmt: skip


@pytest.mark.parametrize("heads", [2, pytest.param(4, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OPTIONS)
def test_forward_and_gradients(name, heads):
    one = case(heads=heads, **OPTIONS[name])
    problem, wanted = one.matrix().problem, one.reference()
    assert Flex().why_not(problem) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is not dropped
        with mock.patch.object(Plain, "forward", side_effect=AssertionError("plain PyTorch")):
            context, lse = Cuda().forward(problem)
    close(context, wanted.context, 1e-5)
    close(lse, wanted.lse, 1e-5)
    assert lse.dtype == torch.float64
    grad = random(*context.shape, seed=9)
    names = ["query", "key", "value"] + ["sinks"] * (problem.sinks is not None)
    with mock.patch.object(Plain, "backward", side_effect=AssertionError("plain PyTorch")):
        found = Cuda().backward(problem, context, lse, grad, None, names)
    plain = Plain().backward(problem, context, lse, grad, None, names)
    for field in names:
        close(found[field], plain[field], 2e-5)


@pytest.mark.parametrize("number", [-1e6, -1e30])
def test_rows_far_from_0(number):
    """A query all of whose keys a bias hides, by a number as padding often is, looks at all of them alike.

    Of such a row float32, in which kernels take the lse, has lost the sum: their gradients would be too large.
    """
    bias = torch.where(torch.arange(N)[:, None] % 3 == 0, torch.tensor(number), random(N, M))
    problem = case(bias=bias).matrix().problem
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is not dropped
        with mock.patch.object(Plain, "forward", side_effect=AssertionError("plain PyTorch")):
            context, lse = Cuda().forward(problem)
    given = [one.detach().requires_grad_() for one in (problem.query, problem.key, problem.value)]
    query, key, value = given
    key, value = (one.repeat_interleave(H // G, 1) for one in (key, value))
    wanted = torch.softmax(query @ key.mT / 4 + bias, -1) @ value
    rounding = 3e-1 if number == -1e6 else 2e-5  # an ulp of -1e6 is 0.06
    close(context, wanted.detach(), rounding)
    grad = random(*context.shape, seed=9)
    found = Cuda().backward(problem, context, lse, grad, None, ["query", "key", "value"])
    for one, right in zip(found.values(), torch.autograd.grad(wanted, given, grad), strict=True):
        close(one, right, rounding)


def test_a_number_that_base_2_does_not_hold():
    """Flex computes in base 2, in which float32's least number is -inf: it is found out, and plain PyTorch right."""
    number = torch.tensor(torch.finfo(torch.float32).min)
    one = case(bias=torch.where(torch.arange(N)[:, None] % 3 == 0, number, random(N, M)))
    with pytest.warns(RuntimeWarning, match="'flex' .*: its lse is off by inf"):
        context, _ = Cuda().forward(one.matrix().problem)
    alike = one.value.repeat_interleave(H // G, 1).mean(2)
    close(context[:, :, 0], alike, 2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves(dtype):
    one = case(dtype, **OPTIONS["all"])
    context, lse = Cuda().forward(one.matrix().problem)
    assert context.dtype == dtype and trust.dropped("flex") is None
    close(context, one.reference().context, 3e-2)
    close(lse, one.reference().lse, 1e-2)


def test_what_is_hidden_has_no_influence():
    one = case(mask=sightline.prefix(2) | sightline.window(3, 0))
    key, value = one.key.clone(), one.value.clone()
    key[:, :, 5], value[:, :, 5] = math.inf, math.nan
    problem = Case(one.query, key, value, one.options).matrix().problem
    context, _ = Cuda().forward(problem)
    clean, _ = Plain().forward(one.matrix().problem)
    blind = (one.reference().weights[..., 5] == 0).all(0).all(0)
    close(context[:, :, blind], clean[:, :, blind], 1e-5)


# --- blocks -----------------------------------------------------------------------------------------------

MASKS = {
    "causal": sightline.causal(),
    "causal, top left": sightline.causal("top-left"),
    "a window": sightline.window(140, 3),
    "a union": sightline.prefix(40) | sightline.window(20, 0),
    "lengths": sightline.lengths(torch.tensor([400, 130])) & sightline.causal(),
    "documents": sightline.documents(torch.arange(300) // 128, torch.arange(400) // 100),
    "of keys": sightline.dense((torch.arange(400) % 300 < 256)[None]),
    "of queries": sightline.dense((torch.arange(300) < 140)[:, None]),
    "dense and ranges": sightline.dense(torch.rand(H, 300, 400) < 0.9) & sightline.prefix(256),
    "dense in blocks": sightline.dense(torch.ones(300, 400, dtype=torch.bool).tril(-128)),
}


@pytest.mark.parametrize("name", MASKS)
def test_blocks_are_those_of_pytorch(name):
    """create_block_mask, which looks at every pair, finds the same blocks; and what it marks is not seen at all."""
    n, m = 300, 400
    problem = case(n=n, m=m, mask=MASKS[name]).matrix().problem
    ours, seen = flex.block_mask(problem), flex.mask_mod(problem)
    theirs = pytorchs.create_block_mask(seen, B, H, n, m, device="cpu")
    for kind in ("", "full_"):
        assert torch.equal(dense(ours, f"{kind}kv", 4).expand(B, H, -1, -1), dense(theirs, f"{kind}kv", 4)), (
            kind
        )
        assert torch.equal(dense(ours, f"{kind}q", 3).expand(B, H, -1, -1), dense(theirs, f"{kind}q", 3)), (
            kind
        )


def dense(mask, kind, columns):
    """Which blocks a list of them names."""
    count, which = getattr(mask, f"{kind}_num_blocks"), getattr(mask, f"{kind}_indices").long()
    assert which.shape[-1] == columns and count.dtype == torch.int32
    named = torch.arange(columns) < count[..., None]
    return torch.zeros(which.shape, dtype=torch.bool).scatter(-1, which, named)


def test_blocks_are_linear_in_the_queries():
    """A million queries and keys: nothing of their product is made, and a row of blocks has what is seen."""
    n = 1 << 17
    ranges = torch.stack((torch.zeros(n, dtype=torch.int32), torch.arange(1, n + 1, dtype=torch.int32)), -1)
    query = torch.empty(1, 1, 1, 16).expand(1, 1, n, 16)
    blocks = blocks_of(Problem(query, query, None, 1.0, ranges=ranges.view(1, 1, n, 1, 2)))
    assert torch.equal(blocks.whole[0, 0], torch.ones(n // SIZE, n // SIZE, dtype=torch.bool).tril(-1))
    assert torch.equal(blocks.part[0, 0], torch.eye(n // SIZE, dtype=torch.bool))


# --- shapes on CUDA, and what it cannot do ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("terms", ["ranges", "dense", "bias and ranges", "all"])
def test_shapes_and_dtypes_on_cuda(monkeypatch, dtype, terms):
    """By PyTorch's definition of its operator, under fake tensors that lie on CUDA."""
    # At its end stands a copy into other strides, which fake tensors cannot make where PyTorch has no CUDA.
    operator = sys.modules[
        "torch._higher_order_ops.flex_attention"
    ]  # whose package has a function of this name
    monkeypatch.setattr(operator, "_permute_strides", lambda out, strides: out)
    with FakeTensorMode():
        query = torch.empty(2, 4, 300, 64, dtype=dtype, device=CUDA)
        key = torch.empty(2, 2, 400, 64, dtype=dtype, device=CUDA)
        fields = {
            "ranges": torch.empty(2, 1, 300, 2, 2, dtype=torch.int32, device=CUDA),
            "visible": torch.empty(1, 4, 300, 400, dtype=torch.bool, device=CUDA),
            "bias": torch.empty(1, 1, 300, 400, dtype=dtype, device=CUDA),
            "slopes": torch.empty(1, 4, device=CUDA),
            "offset": torch.empty(1, dtype=torch.int64, device=CUDA),
        }
        names = {"dense": ["visible"], "bias and ranges": ["bias", "ranges"], "all": list(fields)}
        chosen = names.get(terms, [terms])
        problem = Problem(query, key, key.clone(), 0.125, **{name: fields[name] for name in chosen})
        context, lse = Flex().forward(problem)
        assert (context.shape, context.dtype, context.device) == (query.shape, dtype, CUDA)
        assert (lse.shape, lse.dtype, lse.device) == ((2, 4, 300), torch.float64, CUDA)


@pytest.mark.parametrize(
    "options, dtype, width, why",
    [
        ({}, torch.float64, 16, "the dtype is torch.float64, and it takes float32, float16 and bfloat16"),
        ({}, torch.float32, 12, "heads are 12 wide, and it takes 16 to 256"),
        ({}, torch.float32, 260, "heads are 260 wide"),
        ({"mask": many_ranges()}, torch.float32, 16, "a query has 9 key ranges, and it takes 8"),
    ],
)
def test_what_it_leaves_to_others(options, dtype, width, why):
    assert why in str(Flex().why_not(case(dtype, width, m=20, **options).matrix().problem))


def test_dropout_and_a_learned_softcap_are_left_to_others():
    problem = case().matrix().problem
    assert str(Flex().why_not(replace(problem, dropout=0.5, seed=torch.tensor(1)))) == "it knows no dropout"
    assert "the softcap is a tensor" in str(Flex().why_not(replace(problem, softcap=torch.tensor(2.0))))


def test_without_triton(monkeypatch):
    monkeypatch.setattr("sightline.backends.triton.wing.missing", lambda: "Triton is not installed")
    assert str(Flex().why_not(case().matrix().problem)) == "Triton is not installed. pip install triton"


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_compiler_that_fails_is_not_asked_again(monkeypatch, where):
    one = case(mask=OPTIONS["a union"]["mask"])
    problem = one.matrix().problem
    context, lse = Plain().forward(problem)

    def fails(*given):
        raise RuntimeError("\nNo C compiler was found.\nmore lines")

    monkeypatch.setattr(flex, "compiled", lambda: fails)
    works = {
        "forward": lambda: Cuda().forward(problem),
        "backward": lambda: Cuda().backward(problem, context, lse, torch.ones_like(context), None, ["query"]),
    }
    told = "'flex' .*: it failed with RuntimeError: No C compiler was found"
    with pytest.warns(RuntimeWarning, match=told):
        found = works[where]()
    assert where == "backward" or torch.equal(found[0], context)
    assert Cuda().why_not(problem, sightline.backends.Work("attention")) is not None


def test_a_full_memory_is_nothing_against_a_kernel(monkeypatch):
    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4 GiB.")

    monkeypatch.setattr(flex, "compiled", lambda: full)
    with pytest.raises(torch.OutOfMemoryError):
        Cuda().forward(case().matrix().problem)
    assert trust.dropped("flex") is None

"""Native gradients: every one, at every level, against autograd through the float64 definition."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline
from cases import cases, close
from sightline import reference
from sightline.backends import dropout
from sightline.backends.native import kernels
from sightline.backends.problem import GRADIENTS
from sightline.backends.schedule import Place
from sightline.biases import Alibi, DenseBias, Relative
from sightline.core import library
from sightline.lowering import lower

pytestmark = pytest.mark.skipif(library.available() is not None, reason="the native core is not built")

TERMS = ("term", "bias", "slopes", "table")
LEVELS = library.levels() if library.available() is None else []


def term_of(case):
    """(the tensor of the case's bias, how to make the bias of such a tensor); (None, ...) without one."""
    bias = case.options.get("bias")
    if isinstance(bias, Alibi):
        return bias.slopes, lambda t: replace(bias, slopes=t)
    if isinstance(bias, Relative):
        return bias.table, lambda t: replace(bias, table=t)
    if isinstance(bias, DenseBias):
        return bias.tensor, DenseBias
    return bias, lambda t: t


def spread_of(case):
    """How much larger than a weight's the error of a bias term's gradient may be.

    The gradients of a row cancel, those of all rows are summed, and slopes multiply them with distances.
    """
    b, h, n, m = case.shape
    return (b * h * n) ** 0.5 * (max(n, m) if isinstance(case.options.get("bias"), Alibi) else 1)


def leaves_of(case):
    """Everything that gradients reach, by name."""
    found = {"query": case.query, "key": case.key, "value": case.value, "sinks": case.options.get("sinks")}
    found["term"], _ = term_of(case)
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def call(attend, case, leaves, **more):
    options = dict(case.options)
    if "sinks" in leaves:
        options["sinks"] = leaves["sinks"]
    if "term" in leaves:
        options["bias"] = term_of(case)[1](leaves["term"])
    return attend(leaves["query"], leaves["key"], leaves["value"], **options, **more)


def native_gradients(case, upstream, seed=0, rate=0.0):
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in leaves_of(case).items()}
    torch.manual_seed(seed)
    with sightline.backend("cpu"):
        context = call(sightline.attention, case, leaves, dropout=rate)
        grads = torch.autograd.grad(context, list(leaves.values()), upstream)
    return dict(zip(leaves, grads, strict=True))


def pattern_of(case, seed, rate):
    """The dropout pattern that attention() draws after torch.manual_seed(seed)."""
    torch.manual_seed(seed)
    problem = lower(case.query, case.key, case.value, dropout=rate)
    b, _, n, m = problem.shape
    return dropout.kept(problem, Place(slice(0, b), slice(0, n), slice(0, m)))


def wanted_gradients(case, upstream, kept=None):
    leaves = {name: tensor.detach().double().requires_grad_() for name, tensor in leaves_of(case).items()}
    context = call(reference.attention, case, leaves, kept=kept).context
    grads = torch.autograd.grad(context, list(leaves.values()), upstream.double(), allow_unused=True)
    return {
        # Autograd through a softmax over nothing is NaN; those rows have gradient 0.
        name: torch.zeros_like(leaf) if grad is None else torch.nan_to_num(grad, nan=0.0)
        for (name, leaf), grad in zip(leaves.items(), grads, strict=True)
    }


def upstream_of(case):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*case.query.shape[:3], case.value.shape[3], generator=generator).to(case.query.dtype)


def check_all(found, wanted, tolerance, spread=1, rounded=None):
    """Within a tolerance of the largest entry; that of a bias term may be ``spread`` times as far off.

    What ``rounded`` names may be off by as much more.
    """
    for name, grad in found.items():
        size = max(1.0, wanted[name].abs().max().item()) if wanted[name].numel() else 1.0
        size = max(size, spread) if name in TERMS else size
        close(grad.double() / size, wanted[name] / size, tolerance + (rounded or {}).get(name, 0.0) / size)


def off_by_rounded_context(case, upstream, kept):
    """How far gradients may be off, by name, as the backward pass reads the context as it was returned: rounded.

    A row's gradients of its scores are weights * (grad_weights - delta), with delta = sum(context * upstream): what
    rounding moves delta by, it moves them by, and weights sum to 1. One row makes a gradient of query; many share one
    of the others, and their roundings, which know nothing of each other, add up like the root of how many they are.
    """
    b, h, n, _ = case.shape
    context = call(reference.attention, case, leaves_of(case), kept=kept).context
    step = torch.finfo(upstream.dtype).eps / 2
    delta = step * (context * upstream).abs().sum(-1).max().item()
    scale = abs(case.options.get("scale", case.query.shape[3] ** -0.5))
    rows = h // case.key.shape[1] * n
    return {
        "query": delta * scale * case.key.abs().max().item(),
        "key": delta * scale * case.query.abs().max().item() * rows**0.5,
        "sinks": delta * (b * n) ** 0.5,
        "term": delta * spread_of(case),
    }


@pytest.mark.parametrize("level", LEVELS)
def test_every_gradient(level, monkeypatch, torch_threads):
    monkeypatch.setenv("SIGHTLINE_ISA", level)

    @given(case=cases(), threads=st.integers(1, 3))
    def check(case, threads):
        torch_threads(threads)
        upstream = upstream_of(case)
        found = native_gradients(case, upstream)
        check_all(found, wanted_gradients(case, upstream), 2e-5, spread_of(case))
        assert [found[n].dtype for n in found] == [leaf.dtype for leaf in leaves_of(case).values()]

    check()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 4e-2), (torch.float16, 5e-3)])
def test_half_precision(level, dtype, tolerance, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)

    @settings(max_examples=40)
    @given(case=cases(dtype=dtype), rate=st.sampled_from([0.0, 0.3]))
    def check(case, rate):
        upstream = upstream_of(case)
        found = native_gradients(case, upstream, seed=1, rate=rate)
        kept = pattern_of(case, 1, rate) if rate else None
        rounded = off_by_rounded_context(case, upstream, kept)
        check_all(found, wanted_gradients(case, upstream, kept), tolerance, spread_of(case), rounded)
        assert [found[n].dtype for n in found] == [leaf.dtype for leaf in leaves_of(case).values()]

    check()


MASKS = {
    "none": lambda n, m: None,
    "causal": lambda n, m: sightline.causal(),
    "window": lambda n, m: sightline.window(3, 40),
    "dense": lambda n, m: torch.rand(n, m, generator=torch.Generator().manual_seed(2)) > 0.6,
}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_bias_of_halves_gets_the_gradient_of_its_copy_in_float32_rounded_once(
    level, dtype, monkeypatch, torch_threads
):
    monkeypatch.setenv("SIGHTLINE_ISA", level)

    @settings(max_examples=60)
    @given(
        summed=st.sets(st.integers(0, 3)), n=st.sampled_from([1, 5, 64, 67, 130]),
        m=st.sampled_from([1, 3, 16, 37, 200]), mask=st.sampled_from(list(MASKS)),
        of_query=st.sampled_from([torch.float32, dtype]), threads=st.integers(1, 3),
    )  # fmt: skip
    def check(summed, n, m, mask, of_query, threads):
        torch_threads(threads)
        torch.manual_seed(0)
        q, k, v = (torch.randn(2, 2, length, 8).to(of_query) for length in (n, m, m))
        shape = [1 if axis in summed else size for axis, size in enumerate((2, 2, n, m))]
        halves = torch.randn(shape).to(dtype)
        upstream, found = torch.randn(2, 2, n, 8).to(of_query), []
        for bias in (halves, halves.float()):
            with sightline.backend("cpu"):
                context = sightline.attention(q, k, v, bias=bias.requires_grad_(), mask=MASKS[mask](n, m))
            found += torch.autograd.grad(context, bias, upstream)
        assert found[0].dtype == dtype
        if of_query == torch.float32:
            assert torch.equal(found[0], found[1].to(dtype))
        else:  # whose weights are computed with less care where they are rounded at once
            apart = (found[0].double() - found[1]).abs() - torch.finfo(dtype).eps * found[1].abs()
            assert apart.max() < 1e-6

    check()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_gradient_of_a_bias_that_no_cache_holds(level, dtype, monkeypatch, torch_threads):
    # 9 MB and more go past the caches, where rows lie so that they can.
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    torch_threads(2)
    for n, m in ((1536, 3072), (1027, 4433)):
        torch.manual_seed(0)
        q, k, v = (torch.randn(1, 1, length, 8).to(dtype) for length in (n, m, m))
        bias = torch.randn(n, m).to(dtype).requires_grad_()
        with sightline.backend("cpu"):
            context = sightline.attention(q, k, v, bias=bias)
        upstream = torch.randn_like(context)
        (found,) = torch.autograd.grad(context, bias, upstream)
        weights = torch.softmax((q.double() @ k.double().mT)[0, 0] / 8**0.5 + bias.detach().double(), -1)
        grad = (upstream.double() @ v.double().mT)[0, 0]
        wanted = weights * (grad - (weights * grad).sum(-1, keepdim=True))
        rounded = 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps
        assert ((found.double() - wanted).abs() - rounded * wanted.abs()).max() < (rounded and 2e-4) + 1e-6


@pytest.mark.parametrize("level", LEVELS)
def test_dropout(level, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)

    @settings(max_examples=30)
    @given(case=cases(), rate=st.sampled_from([0.1, 0.5, 0.97, 1.0]), seed=st.integers(0, 2**40))
    def check(case, rate, seed):
        upstream, kept = upstream_of(case), pattern_of(case, seed, rate)
        torch.manual_seed(seed)
        with sightline.backend("cpu"):
            context = case.attention(dropout=rate)
        options = case.options
        close(
            context,
            reference.attention(case.query, case.key, case.value, **options, kept=kept).context,
            5e-6 / (1.03 - rate),
        )
        wanted = wanted_gradients(case, upstream, kept)
        check_all(native_gradients(case, upstream, seed, rate), wanted, 2e-5 / (1.03 - rate), spread_of(case))

    check()


def test_native_dropout_drops_what_the_chunked_backend_drops():
    n, m = 150, 260
    q, k, v = torch.randn(2, 3, n, 4), torch.randn(2, 3, m, 4), torch.eye(m).expand(2, 3, m, m)
    for rate in (0.0001, 0.5, 0.999999):
        found = []
        for backend in ("cpu", "chunked"):
            torch.manual_seed(3)
            with sightline.backend(backend):
                found.append(sightline.attention(q, k, v, dropout=rate))
        assert torch.equal(found[0] == 0, found[1] == 0)
        close(found[0], found[1], 1e-6 / (1 - rate))


def test_a_group_of_queries_with_few_keys_and_many_threads(torch_threads):
    # More threads than key heads: their rows are split, and what they sum is added in order.
    q, k, v = torch.randn(1, 6, 700, 24), torch.randn(1, 2, 900, 24), torch.randn(1, 2, 900, 40)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    table, sinks = torch.randn(1, 31, requires_grad=True), torch.randn(6, requires_grad=True)
    bias = torch.randn(1, 1, 700, 900, requires_grad=True)
    upstream = torch.randn(1, 6, 700, 40)
    for term in (table, bias):
        leaves = [*inputs, term, sinks]
        doubles = [x.detach().double().requires_grad_() for x in leaves]

        def make(t, term=term):
            return sightline.relative(t) if term is table else t

        wanted = torch.autograd.grad(
            reference.attention(
                *doubles[:3], mask=sightline.causal(), bias=make(doubles[3]), sinks=doubles[4]
            ).context,
            doubles,
            upstream.double(),
        )
        for threads in (1, 2, 3, 5, 16):
            torch_threads(threads)
            runs = []
            for _ in range(2):
                with sightline.backend("cpu"):
                    context = sightline.attention(
                        *inputs, mask=sightline.causal(), bias=make(term), sinks=sinks
                    )
                    runs.append(torch.autograd.grad(context, leaves, upstream))
            assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
            for found, expected in zip(runs[0], wanted, strict=True):
                close(found, expected, 1e-4)


@given(case=cases(), data=st.data())
@settings(max_examples=40)
def test_only_some_gradients(case, data):
    leaves = leaves_of(case)
    chosen = data.draw(st.sets(st.sampled_from(sorted(leaves)), min_size=1))
    upstream = upstream_of(case)
    everything = native_gradients(case, upstream)
    some = {name: leaf.detach().requires_grad_(name in chosen) for name, leaf in leaves.items()}
    with sightline.backend("cpu"):
        context = call(sightline.attention, case, some)
        found = torch.autograd.grad(context, [some[name] for name in sorted(chosen)], upstream)
    for name, grad in zip(sorted(chosen), found, strict=True):
        assert torch.equal(grad, everything[name])


@settings(max_examples=30)
@given(case=cases())
def test_the_gradient_of_lse(case):
    from sightline.backends.plain.backward import backward

    problem = lower(case.query, case.key, case.value, **case.options)
    names = [name for name in GRADIENTS if getattr(problem, name) is not None]
    b, h, n, _ = problem.shape
    upstream, grad_lse = upstream_of(case), torch.randn(b, h, n)

    context, lse = kernels.forward(problem)
    found = kernels.backward(problem, context, lse, upstream, grad_lse, names)
    wanted = backward(problem, context, lse, upstream, grad_lse, names)
    check_all(found, {name: grad.double() for name, grad in wanted.items()}, 2e-5, spread_of(case))


def test_gradients_that_come_expanded():
    q, k, v = (torch.randn(2, 3, 70, 16, requires_grad=True) for _ in range(3))
    with sightline.backend("cpu"):
        sightline.attention(q, k, v).sum().backward()
        expanded = [x.grad for x in (q, k, v)]
        found = torch.autograd.grad(sightline.attention(q, k, v), (q, k, v), torch.ones(2, 3, 70, 16))
    assert all(torch.equal(a, b) for a, b in zip(expanded, found, strict=True))


def test_gradients_are_laid_out_like_their_inputs():
    x = torch.randn(2, 50, 3, 16)
    q, k, v = (x.clone().transpose(1, 2).requires_grad_() for _ in range(3))
    with sightline.backend("cpu"):
        grads = torch.autograd.grad(sightline.attention(q, k, v).square().sum(), (q, k, v))
    assert all(grad.transpose(1, 2).is_contiguous() for grad in grads)


def test_retained_graphs_give_the_same_gradients_again():
    q, k, v = (torch.randn(1, 2, 140, 16, requires_grad=True) for _ in range(3))
    with sightline.backend("cpu"):
        loss = sightline.attention(q, k, v, dropout=0.3).square().sum()
        first = torch.autograd.grad(loss, (q, k, v), retain_graph=True)
        second = torch.autograd.grad(loss, (q, k, v))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_no_queries_and_no_keys():
    for n, m in ((0, 5), (5, 0), (0, 0)):
        q, k, v = (torch.randn(1, 2, length, 8, requires_grad=True) for length in (n, m, m))
        bias = torch.randn(1, 2, 1, m, requires_grad=True)
        with sightline.backend("cpu"):
            context = sightline.attention(q, k, v, bias=bias)
            for grad in torch.autograd.grad(context, (q, k, v, bias), torch.ones_like(context)):
                assert (grad == 0).all()

"""Derivatives of readouts: against autograd through the dense matrix in float64, and finite differences."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import sightline
from sightline import reference

B, H, G, N, M, D = 2, 4, 2, 7, 9, 5
SEGMENTS = torch.tensor([0, 0, 1, 1, 1, 3, 3, 0, 1])
INDICES = torch.tensor([0, 3, -1, 8, 2, 5, 5])

MASKS = {
    "all": None,
    "causal": sightline.causal(),
    "empty rows": sightline.causal(align=-2),
    "lengths": sightline.lengths([0, 5]),
    "two ranges": sightline.window(1, 0) | sightline.prefix(2),
    "dense": torch.rand(B, 1, N, M, generator=torch.Generator().manual_seed(0)) < 0.5,
}
BIASES = {
    "none": (None, lambda term: None),
    "alibi": ((H,), sightline.alibi),
    "relative": ((H, 5), sightline.relative),
    "row": ((1, H, 1, M), lambda term: term),
    "whole": ((B, H, N, M), lambda term: term),
}
#: By name, what is read off a matrix, and off its dense weights w, logits s and lse.
READ = {
    "lse": (lambda A, x, y: A.lse, lambda w, s, lse, x, y: lse),
    "entropy": (lambda A, x, y: A.entropy(), lambda w, s, lse, x, y: entropy(w)),
    "received": (lambda A, x, y: A.received(), lambda w, s, lse, x, y: w.sum(-2)),
    "max": (lambda A, x, y: A.max().values, lambda w, s, lse, x, y: w.amax(-1)),
    "max_score": (lambda A, x, y: finite(A.max_score()), lambda w, s, lse, x, y: finite(s.amax(-1))),
    "topk": (lambda A, x, y: A.topk(3).values, lambda w, s, lse, x, y: w.topk(3).values),
    "distance": (lambda A, x, y: A.distance(), lambda w, s, lse, x, y: (w * steps()).sum(-1)),
    "mass": (
        lambda A, x, y: A.mass(SEGMENTS),
        lambda w, s, lse, x, y: w @ torch.nn.functional.one_hot(SEGMENTS).to(w.dtype),
    ),
    "diagonal": (lambda A, x, y: A.diagonal(1), lambda w, s, lse, x, y: w.diagonal(1, 2, 3)),
    "gather": (
        lambda A, x, y: A.gather(INDICES),
        lambda w, s, lse, x, y: w[:, :, torch.arange(N), INDICES] * (INDICES >= 0),
    ),
    "A @ x": (lambda A, x, y: A @ x, lambda w, s, lse, x, y: w @ x),
    "A @ shared x": (lambda A, x, y: A @ x[0, 0], lambda w, s, lse, x, y: w @ x[0, 0]),
    "A.T @ y": (lambda A, x, y: A.T @ y, lambda w, s, lse, x, y: w.mT @ y),
    "A.T @ vector": (lambda A, x, y: A.T @ y[0, 0, :, 0], lambda w, s, lse, x, y: w.mT @ y[0, 0, :, 0]),
    "y @ A": (lambda A, x, y: y.mT @ A, lambda w, s, lse, x, y: y.mT @ w),
    "part": (lambda A, x, y: A[:, 1:3, 2:5, 1:], lambda w, s, lse, x, y: w[:, 1:3, 2:5, 1:]),
}


def entropy(w):
    return -(w * w.where(w > 0, 1).log()).sum(-1)


def finite(scores):
    return scores.masked_fill(scores == -torch.inf, 0)


def steps():
    return (torch.arange(N)[:, None] + M - N - torch.arange(M)).abs()


def leaves(bias, sinks, dtype=torch.float64, seed=0):
    """Query, key, bias term, sinks, and factors of products."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [
        (B, H, N, D),
        (B, G, M, D),
        BIASES[bias][0],
        (H,) if sinks else None,
        (B, H, M, 3),
        (B, H, N, 2),
    ]
    made = [
        None if shape is None else torch.randn(shape, generator=generator).to(dtype).requires_grad_()
        for shape in shapes
    ]
    return made


def dense(q, k, term, sinks, mask, bias, softcap):
    """(weights, logits, lse) by the definition; autograd follows, and empty rows have no derivative."""
    stages = reference.attention(q, k, k, mask=mask, bias=BIASES[bias][1](term), softcap=softcap, sinks=sinks)
    seen = stages.masked != -torch.inf
    shown = stages.masked.masked_fill(~seen, -1e4)
    rows = (
        shown if sinks is None else torch.cat([shown, sinks[:, None, None].expand(B, H, N, 1).double()], -1)
    )
    lse = rows.logsumexp(-1)
    weights = (shown - lse[..., None]).exp() * seen
    empty = ~seen.any(-1) & (torch.tensor(sinks is None))
    return weights.masked_fill(empty[..., None], 0), stages.masked, lse.masked_fill(empty, 0)


def both(name, mask, bias, sinks, softcap, dtype):
    """The readout's gradients, and those through the dense matrix in float64."""
    inputs = leaves(bias, sinks, dtype)
    q, k, term, sink, x, y = inputs
    A = sightline.AttentionMatrix(
        q, k, mask=MASKS[mask], bias=BIASES[bias][1](term), softcap=softcap, sinks=sink, detach=False
    )
    found = READ[name][0](A, x, y)
    found = found.masked_fill(found == -torch.inf, 0)
    doubles = [None if one is None else one.detach().double().requires_grad_() for one in inputs]
    w, s, lse = dense(*doubles[:4], MASKS[mask], bias, softcap)
    wanted = READ[name][1](w, s, lse, *doubles[4:])
    upstream = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(
        found.double(), wanted, atol=1e-5 if dtype == torch.float32 else 3e-2, rtol=1e-4
    )
    pairs = [(a, b) for a, b in zip(inputs, doubles, strict=True) if a is not None]
    mine, other = zip(*pairs, strict=True)
    of_mine = torch.autograd.grad(found, mine, upstream.to(found.dtype), allow_unused=True)
    of_other = torch.autograd.grad(wanted, other, upstream, allow_unused=True)
    return of_mine, of_other


def compare(found, wanted, tolerance):
    for mine, other in zip(found, wanted, strict=True):
        if mine is None or other is None:
            assert mine is None or not mine.any()
            assert other is None or not other.any()
            continue
        scale = max(1.0, float(other.abs().max()))
        assert float((mine.double() - other).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("mask", MASKS)
def test_masks(name, mask, wing):
    compare(*both(name, mask, "none", False, None, torch.float32), 2e-5)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("more", ["sinks", "softcap"])
def test_biases_sinks_softcap(name, bias, more, wing):
    sinks, softcap = more == "sinks", 2.0 if more == "softcap" else None
    compare(*both(name, "two ranges", bias, sinks, softcap, torch.float32), 2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", READ)
def test_half_precision(name, dtype):
    inputs = leaves("none", False, dtype)
    q, k, _, _, x, y = inputs
    found = READ[name][0](sightline.AttentionMatrix(q, k, mask=sightline.causal(), detach=False), x, y)
    doubles = [None if one is None else one.detach().double().requires_grad_() for one in inputs]
    w, s, lse = dense(*doubles[:4], sightline.causal(), "none", None)
    wanted = READ[name][1](w, s, lse, *doubles[4:])
    ones = torch.ones_like(wanted)
    mine = torch.autograd.grad(found, (q, k), ones.to(found.dtype), allow_unused=True)
    other = torch.autograd.grad(wanted, (doubles[0], doubles[1]), ones, allow_unused=True)
    compare(mine, other, 2e-2)


@pytest.mark.parametrize("name", [name for name in READ if name not in ("max", "topk", "max_score")])
@pytest.mark.parametrize("bias", ["none", "alibi", "row"])
def test_finite_differences_of_both_orders(name, bias):
    q, k, term, sinks, x, y = leaves(bias, True)

    def read(q, k, sinks, x, y, *term):
        made = BIASES[bias][1](*term) if term else None
        A = sightline.AttentionMatrix(q, k, mask=MASKS["two ranges"], bias=made, sinks=sinks, detach=False)
        return READ[name][0](A, x, y)

    inputs = (q, k, sinks, x, y, *(() if term is None else (term,)))
    assert gradcheck(read, inputs, fast_mode=True)
    assert gradgradcheck(read, inputs, fast_mode=True)


@pytest.mark.parametrize("transform", ["grad", "jvp", "jacrev"])
@pytest.mark.parametrize("name", ["lse", "entropy", "received", "mass", "A @ x", "A.T @ y", "gather"])
def test_transforms(name, transform):
    q, k, _, _, x, y = (None if one is None else one.detach() for one in leaves("none", False))

    def read(q):
        return READ[name][0](sightline.AttentionMatrix(q, k, mask=sightline.causal(), detach=False), x, y)

    def by_hand(q):
        return READ[name][1](*dense(q, k, None, None, sightline.causal(), "none", None), x, y)

    if transform == "grad":
        made = [torch.func.grad(lambda q, f=f: f(q).square().sum())(q) for f in (read, by_hand)]
    elif transform == "jvp":
        made = [torch.func.jvp(f, (q,), (torch.ones_like(q),))[1] for f in (read, by_hand)]
    else:
        made = [torch.func.jacrev(f)(q) for f in (read, by_hand)]
    torch.testing.assert_close(*made)


def test_a_readout_may_be_used_again():
    q, k = (one.detach().requires_grad_() for one in leaves("none", False)[:2])
    A = sightline.AttentionMatrix(q, k, detach=False)
    loss = A.entropy().sum() + A.received().square().sum() + A.lse.sum()
    first = torch.autograd.grad(loss, (q, k), retain_graph=True)
    second = torch.autograd.grad(loss, (q, k))
    assert all(map(torch.equal, first, second))
    A.entropy().sum().backward()
    A.entropy().sum().backward()  # readouts do not share a graph that the first pass would have freed
    once = torch.autograd.grad(A.entropy().sum(), q)[0]
    torch.testing.assert_close(q.grad, 2 * once)


def test_with_the_context_of_the_same_call(wing):
    q, k, term, sinks, x, _ = leaves("row", True, torch.float32)
    v = torch.randn(B, G, M, 3, requires_grad=True)
    options = {"mask": MASKS["two ranges"], "softcap": 3.0}
    context, A = sightline.attention(
        q, k, v, bias=term, sinks=sinks, return_matrix="differentiable", **options
    )
    assert A.requires_grad
    inputs = (q, k, v, term, sinks)
    loss = context.square().sum() - A.entropy().sum() + A.lse.sum() + (A @ x.detach()).sum()
    found = torch.autograd.grad(loss, inputs, retain_graph=True)
    again = torch.autograd.grad(loss, inputs)
    assert all(map(torch.equal, found, again))
    doubles = [one.detach().double().requires_grad_() for one in inputs]
    stages = reference.attention(*doubles[:3], bias=doubles[3], sinks=doubles[4], **options)
    wanted_loss = stages.context.square().sum() - entropy(stages.weights).sum() + stages.lse.sum()
    wanted_loss = wanted_loss + (stages.weights @ x.detach().double()).sum()
    for mine, other in zip(found, torch.autograd.grad(wanted_loss, doubles), strict=True):
        torch.testing.assert_close(mine.double(), other, atol=1e-4, rtol=1e-4)


def test_both_orders_with_the_context():
    q, k, v = (torch.randn(1, 2, 5, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))

    def read(q, k, v):
        context, A = sightline.attention(q, k, v, mask=sightline.causal(), return_matrix="differentiable")
        return context, A.entropy(), A.lse

    assert gradcheck(read, (q, k, v), fast_mode=True)
    assert gradgradcheck(read, (q, k, v), fast_mode=True)


def test_parts_of_a_matrix_read_the_same_entropy():
    q, k, v = (torch.randn(2, 4, 6, 3, requires_grad=True) for _ in range(3))
    _, A = sightline.attention(q, k, v, return_matrix="differentiable")
    (whole,) = torch.autograd.grad(A.entropy()[:, 1].sum(), q, retain_graph=True)
    (part,) = torch.autograd.grad(A[:, 1].entropy().sum(), q)
    torch.testing.assert_close(whole, part)


def test_without_recording_there_are_no_gradients():
    q, k, v = (torch.randn(1, 2, 6, 3, requires_grad=True) for _ in range(3))
    with torch.no_grad():
        _, A = sightline.attention(q, k, v, return_matrix="differentiable")
    (gradient,) = torch.autograd.grad(A.entropy().sum(), q)  # read with gradients after all
    assert gradient.abs().sum() > 0
    with pytest.raises(TypeError, match="return_matrix: must be True or False or 'differentiable'"):
        sightline.attention(q, k, v, return_matrix="attached")


def test_what_hides_sends_no_nan():
    q, k, _, _, x, y = leaves("none", False, torch.float32)
    k.data[:, :, -1] = torch.nan
    x.data[:, :, -1] = torch.nan
    visible = torch.ones(M, dtype=torch.bool)
    visible[-1] = False
    A = sightline.AttentionMatrix(q, k, mask=visible.expand(N, M), detach=False)
    for name in READ:
        gradients = torch.autograd.grad(
            READ[name][0](A, x, y).sum(), (q, k), retain_graph=True, allow_unused=True
        )
        assert all(one is None or bool(one.isfinite().all()) for one in gradients), name


def test_far_rows_have_the_same_gradients():
    q, k = torch.randn(2, 1, 2, 6, 4, dtype=torch.float64).unbind(0)
    far = torch.full((1, 1, 1, 6), -1e4)
    for read in (
        lambda A: A.gather(torch.zeros(6, dtype=torch.int64)),
        lambda A: A[0, 0, 1:3, :2],
        lambda A: A.entropy(),
    ):
        made = []
        for bias in (None, far):
            query = q.float().requires_grad_()
            A = sightline.AttentionMatrix(query, k.float(), bias=bias, detach=False)
            made.append(torch.autograd.grad(read(A).square().sum(), query)[0])
        torch.testing.assert_close(*made, atol=2e-3, rtol=2e-2)

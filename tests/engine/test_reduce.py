"""Reductions by any function: against the dense matrix of the definition, with gradients."""

import math
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.autograd import gradcheck, gradgradcheck

import sightline
from cases import cases, close

EXTRA = 1  # how many extra tensors random functions take


def random_function(seed):
    """An elementwise function made at random: an expression of w, s, i, j and an extra tensor x."""
    draw = random.Random(seed)

    def term(depth):
        if depth == 0:
            return draw.choice(["w", "s", "x", "w", "(i - j)", "j", f"({draw.uniform(-1, 1):.2f} + 0 * w)"])
        a, b = term(depth - 1), term(depth - 1)
        return draw.choice([f"({a} + {b})", f"({a} * {b})", f"torch.tanh({a})", f"torch.sin({a} - {b})"])

    text = f"w * {term(2)} + {draw.choice(['w', '0.1 * torch.tanh(s)', 'torch.sigmoid(s)'])} * {term(1)}"
    return eval(f"lambda w, s, i, j, x: {text}", {"torch": torch}), text  # an expression of this file's own


NEUTRAL = {"sum": 0.0, "max": -math.inf, "min": math.inf}
AXIS = {"batch": 0, "heads": 1, "queries": 2, "keys": 3}


def dense_reduction(f, weights, masked, over, op, extra=()):
    n, m = weights.shape[2:]
    pairs = f(weights, masked, torch.arange(n)[:, None], torch.arange(m), *extra)
    pairs = pairs.to(weights.dtype).expand(weights.shape)
    pairs = pairs.masked_fill(masked == -math.inf, NEUTRAL[op])
    dims = sorted(AXIS[name] for name in over)
    return pairs.sum(dims) if op == "sum" else pairs.amax(dims) if op == "max" else pairs.amin(dims)


@pytest.mark.parametrize("seed", range(50))
def test_random_functions(seed):
    f, text = random_function(seed)
    draw = random.Random(1000 + seed)
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, 2, 4, 23, 6, generator=generator)
    x = torch.randn(draw.choice([(23,), (4, 1, 1), (2, 1, 23, 23)]), generator=generator)
    mask = draw.choice([None, sightline.causal(), sightline.window(5, 2) | sightline.prefix(3)])
    over = draw.choice(
        [("keys",), ("queries",), ("heads", "queries"), ("batch", "keys"), ("keys", "queries")]
    )
    op = draw.choice(["sum", "max", "min"])
    A = sightline.AttentionMatrix(q, k, mask=mask)
    wide = sightline.AttentionMatrix(q.double(), k.double(), mask=mask)
    found = A.reduce(f, over=over, op=op, extra=(x,))
    wanted = dense_reduction(f, wide.dense(), wide.scores(stage="masked"), over, op, (x.double(),))
    assert found.shape == wanted.shape, text
    close(found, wanted, 3e-4)


TABLE = {
    "w": lambda w, s, i, j: w,
    "w²": lambda w, s, i, j: w**2,
    "s": lambda w, s, i, j: s,
    "w·s": lambda w, s, i, j: w * s,
    "w > t": lambda w, s, i, j: w > 0.037,
    "w·|i - j|": lambda w, s, i, j: w * (i - j).abs(),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("over", ["keys", "queries"])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases(empty=True))
def test_functions_with_kernels(name, over, wing, case):
    A = case.matrix()
    assert A.explain(reduce=TABLE[name])["reduce"].startswith(
        {"chunked": "plain PyTorch", "definition": "the definition"}.get(wing, "native")
    )
    stages = case.reference()
    weights = A.dense().double() if name == "w > t" else stages.weights  # rounding may cross the threshold
    wanted = dense_reduction(TABLE[name], weights, stages.masked, (over,), "sum")
    close(A.reduce(TABLE[name], over=over), wanted, 2e-4)


def test_unknown_functions_go_by_blocks():
    A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 9, 4))
    calls = []

    def noting(w, s, i, j):
        calls.append(tuple(w.shape))
        return w

    A.reduce(noting)
    assert calls == [(1, 2, 9, 9)]
    for f in (
        noting,
        lambda w, s, i, j: w * 2,
        lambda w, s, i, j: w * (i - j),
        lambda w, s, i, j: w.cumsum(-1),
    ):
        assert A.explain(reduce=f)["reduce"] == "plain PyTorch: no kernel knows this function"


def test_several_functions_share_a_pass():
    q, k = torch.randn(2, 1, 2, 40, 4)
    A = sightline.AttentionMatrix(q, k, mask=sightline.causal())
    functions = [lambda w, s, i, j: w**2, lambda w, s, i, j: w**3, lambda w, s, i, j: torch.tanh(s)]
    together = A.reduce(functions, over="queries")
    assert isinstance(together, tuple)
    for f, one in zip(functions, together, strict=True):
        torch.testing.assert_close(one, A.reduce(f, over="queries"))


def test_integer_indices_take_their_axes_away():
    q, k = torch.randn(2, 2, 3, 8, 4)
    A, x = sightline.AttentionMatrix(q, k), torch.randn(2, 8, 1)
    whole = A.reduce(lambda w, s, i, j: w**3)
    torch.testing.assert_close(A[1, 2].reduce(lambda w, s, i, j: w**3), whole[1, 2])
    torch.testing.assert_close(A[:, 1].reduce(lambda w, s, i, j: w**3), whole[:, 1])
    weighed = A[:, 1].reduce(lambda w, s, i, j, x: w**3 * x, extra=(x,))
    torch.testing.assert_close(weighed, whole[:, 1] * x[..., 0])


@pytest.mark.parametrize("op", ["sum", "max", "min"])
@pytest.mark.parametrize("over", ["keys", "queries", ("heads", "queries")])
def test_gradients_of_both_orders(op, over):
    q, k = (torch.randn(1, 4, 6, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    bias = torch.randn(1, 4, 1, 6, dtype=torch.float64, requires_grad=True)
    x = torch.randn(6, 1, dtype=torch.float64, requires_grad=True)

    def read(q, k, bias, x):
        A = sightline.AttentionMatrix(q, k, mask=sightline.causal(), bias=bias, softcap=3.0, detach=False)
        return A.reduce(
            lambda w, s, i, j, x: w * s * x + w**2 * torch.exp(0.1 * s), over=over, op=op, extra=(x,)
        )

    assert gradcheck(read, (q, k, bias, x), fast_mode=True)
    assert gradgradcheck(read, (q, k, bias, x), fast_mode=True)


def test_gradients_with_nothing_to_look_at():
    q, k = (torch.randn(1, 2, 5, 3, requires_grad=True) for _ in range(2))
    A = sightline.AttentionMatrix(q, k, mask=sightline.causal(align=-2), detach=False)
    for op, empty in NEUTRAL.items():
        found = A.reduce(lambda w, s, i, j: w * s, op=op)
        assert (found[:, :, :2] == empty).all()
        (gradient,) = torch.autograd.grad(found[:, :, 2:].sum(), q)
        assert gradient.isfinite().all() and not gradient[:, :, :2].any()


def test_memory_is_linear():
    """A dense matrix of this size would have 2**32 entries."""
    q, k = (torch.randn(1, 1, 1 << 16, 4, requires_grad=True) for _ in range(2))
    A = sightline.AttentionMatrix(q, k, mask=sightline.window(20, 20), detach=False)
    found = A.reduce(lambda w, s, i, j: w**3, over="queries")
    found.sum().backward()
    wanted = (A.detach()[0, 0, 1000:1041, 1020] ** 3).sum()
    torch.testing.assert_close(found[0, 0, 1020].detach(), wanted)
    assert q.grad.isfinite().all()


def test_bad_arguments():
    A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 7, 4))
    learned = torch.ones(1, requires_grad=True)
    cases = [
        (ValueError, "over: unknown axes rows; known: batch, heads, queries, keys", {"over": "rows"}),
        (ValueError, "over: heads leaves a matrix of all queries and keys", {"over": "heads"}),
        (ValueError, "reduce op", {"op": "mean"}),
        (TypeError, "extra=\\(tensor,\\)", {"extra": torch.ones(7)}),
        (ValueError, "reduce extra", {"extra": (torch.ones(5),)}),
    ]
    for kind, message, options in cases:
        with pytest.raises(kind, match=message):
            A.reduce(lambda w, s, i, j, *x: w, **options)
    with pytest.raises(ValueError, match="gave shape .* elementwise"):
        A.reduce(lambda w, s, i, j: w[..., :3])
    with pytest.raises(TypeError, match="must give a real tensor, got float"):
        A.reduce(lambda w, s, i, j: 1.0)
    with pytest.raises(ValueError, match="Hand it over by extra"):
        A.reduce(lambda w, s, i, j: w * learned)
    with pytest.raises(TypeError, match="reduce f"):
        A.reduce("w")

"""Gradients: against finite differences in double precision, and against autograd through the definition."""

import pytest
import torch
from hypothesis import given, settings
from torch.autograd import gradcheck

import sightline
from cases import cases, close
from sightline import reference


def leaf(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


MASKS = {
    "none": None,
    "causal with an empty row": sightline.causal(align=-1),
    "lengths, one of them 0": sightline.lengths([0, 5]),
    "two ranges": sightline.window(1, 0) | sightline.prefix(1),
    "dense": torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(0)) < 0.5,
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("bias", ["none", "alibi", "relative", "dense"])
def test_finite_differences(name, bias):
    q, k, v, sinks = leaf(2, 4, 5, 3), leaf(2, 2, 6, 3), leaf(2, 2, 6, 2), leaf(4)
    term = {"none": leaf(1), "alibi": leaf(4), "relative": leaf(4, 5), "dense": leaf(1, 4, 1, 6)}[bias]
    make = {"alibi": sightline.alibi, "relative": sightline.relative, "dense": lambda t: t}.get(bias)

    def run(q, k, v, sinks, term):
        return sightline.attention(
            q, k, v, mask=MASKS[name], bias=make(term) if make else None, softcap=3.0, sinks=sinks
        )

    inputs = (q, k, v, sinks, term) if make else (q, k, v, sinks, term.detach())
    assert gradcheck(run, inputs, fast_mode=True)


def test_finite_differences_of_lse_and_readouts():
    q, k = leaf(1, 2, 4, 3), leaf(1, 1, 5, 3)

    def matrix(q, k):
        return sightline.AttentionMatrix(q, k, mask=sightline.causal(), detach=False)

    assert gradcheck(lambda q, k: matrix(q, k).lse, (q, k))
    assert gradcheck(lambda q, k: matrix(q, k).entropy(), (q, k))
    assert gradcheck(lambda q, k: matrix(q, k)[0, 1, 1:3, :2], (q, k))
    assert gradcheck(lambda q, k: matrix(q, k) @ torch.ones(5, 2, dtype=torch.float64), (q, k))


def test_matrices_are_detached_unless_asked():
    q, k, v = leaf(3, 1, 2, 4, 3).unbind(0)
    _, A = sightline.attention(q, k, v, return_matrix=True)
    assert not A.requires_grad
    assert not A[0, 0, 0].requires_grad
    assert sightline.AttentionMatrix(q, k, detach=False)[0, 0, 0].requires_grad


def test_dropout_gradients():
    q, k, v = leaf(1, 2, 5, 3), leaf(1, 2, 6, 3), leaf(1, 2, 6, 2)

    def run(q, k, v):
        torch.manual_seed(5)
        return sightline.attention(q, k, v, dropout=0.4)

    assert gradcheck(run, (q, k, v))


@settings(max_examples=40)
@given(case=cases())
def test_float32_gradients_equal_autograd_through_the_definition(case):
    names = ["query", "key", "value"]
    inputs = [getattr(case, name).clone().requires_grad_() for name in names]
    upstream = torch.randn(*case.query.shape[:3], case.value.shape[3])
    context = sightline.attention(*inputs, **case.options)
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    wanted = reference.attention(*doubles, **case.options).context
    found = torch.autograd.grad(context, inputs, upstream)
    expected = torch.autograd.grad(wanted, doubles, upstream.double())
    for a, b in zip(found, expected, strict=True):
        # Autograd through a softmax over nothing is NaN; here those rows have gradient 0.
        close(a, torch.nan_to_num(b, nan=0.0), 2e-4)


def test_repeated_gradients():
    q, k, v = (
        x.float().detach().requires_grad_() for x in (leaf(1, 2, 4, 3), leaf(1, 2, 4, 3), leaf(1, 2, 4, 3))
    )
    loss = sightline.attention(q, k, v).square().sum()
    first = torch.autograd.grad(loss, (q, k, v), retain_graph=True)
    second = torch.autograd.grad(loss, (q, k, v))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_gradients_of_half_precision_have_their_dtype():
    q, k, v = (torch.randn(1, 2, 7, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    slopes = torch.rand(2, requires_grad=True)
    sightline.attention(q, k, v, bias=sightline.alibi(slopes)).float().sum().backward()
    assert [x.grad.dtype for x in (q, k, v, slopes)] == [torch.bfloat16] * 3 + [torch.float32]

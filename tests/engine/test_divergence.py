"""Divergences of two matrices: against the dense ones in float64, with gradients to both."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import sightline

KINDS = ("kl", "reverse_kl", "js", "l2")


def by_hand(p, q, kind):
    def kl(p, q):
        return (p * (p.where(p > 0, 1).log() - q.where(p > 0, 1).log())).sum(-1)

    if kind == "reverse_kl":
        p, q = q, p
    if kind == "js":
        return (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2
    return (p - q).square().sum(-1) if kind == "l2" else kl(p, q)


def pair(dtype=torch.float64, n=9, m=11):
    generator = torch.Generator().manual_seed(0)
    shapes = [(2, 4, n, 5), (2, 2, m, 5), (2, 4, n, 3), (2, 4, m, 3)]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mask", [None, sightline.causal(), sightline.window(2, 1) | sightline.prefix(1)])
def test_values_and_gradients(kind, mask):
    inputs = pair(torch.float32)
    sinks, slopes = torch.randn(4), torch.rand(4)

    def matrices(q, k, q2, k2):
        student = sightline.AttentionMatrix(q, k, mask=mask, bias=sightline.alibi(slopes), detach=False)
        return student, sightline.AttentionMatrix(q2, k2, mask=mask, sinks=sinks, softcap=2.0, detach=False)

    P, Q = matrices(*inputs)
    found = P.divergence(Q, kind)
    doubles = [one.detach().double().requires_grad_() for one in inputs]
    P, Q = matrices(*doubles)
    wanted = by_hand(P.dense(), Q.dense(), kind)
    torch.testing.assert_close(found.double(), wanted, atol=2e-6, rtol=1e-5)
    upstream = torch.randn(wanted.shape, dtype=torch.float64)
    mine = torch.autograd.grad(found, inputs, upstream.float())
    other = torch.autograd.grad(wanted, doubles, upstream)
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a.double(), b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_finite_differences_of_both_orders(kind):
    inputs = [one.detach()[:1, :, :5].requires_grad_() for one in pair()]

    def read(q, k, q2, k2):
        P = sightline.AttentionMatrix(q, k, mask=sightline.causal(), detach=False)
        return P.divergence(sightline.AttentionMatrix(q2, k2, mask=sightline.causal(), detach=False), kind)

    assert gradcheck(read, inputs, fast_mode=True)
    assert gradgradcheck(read, inputs, fast_mode=True)


def test_masks_that_differ():
    q, k, q2, k2 = (one.detach() for one in pair(n=11))
    P = sightline.AttentionMatrix(q, k, mask=sightline.window(2, 0))
    Q = sightline.AttentionMatrix(q2, k2, mask=sightline.causal())
    torch.testing.assert_close(P.divergence(Q), by_hand(P.dense(), Q.dense(), "kl"))
    torch.testing.assert_close(P.divergence(Q, "js"), by_hand(P.dense(), Q.dense(), "js"))
    assert (P.divergence(Q, "reverse_kl")[:, :, 3:] == torch.inf).all()
    torch.testing.assert_close(P.divergence(Q, "l2"), by_hand(P.dense(), Q.dense(), "l2"))
    assert not P.divergence(P, "kl").any()


def test_a_detached_teacher_gets_no_gradient():
    q, k, q2, k2 = pair(torch.float32)
    teacher = sightline.AttentionMatrix(q2, k2)
    student = sightline.AttentionMatrix(q, k, detach=False)
    of_student = torch.autograd.grad(teacher.divergence(student).mean(), (q, k, q2), allow_unused=True)
    assert of_student[0].any() and of_student[1].any() and of_student[2] is None


def test_bad_arguments():
    A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 7, 4))
    with pytest.raises(ValueError, match=r"other matrix has shape \[1, 2, 6, 6\], this one \[1, 2, 7, 7\]"):
        A.divergence(sightline.AttentionMatrix(*torch.randn(2, 1, 2, 6, 4)))
    with pytest.raises(TypeError, match="divergence other"):
        A.divergence(A.dense())
    with pytest.raises(ValueError, match="divergence kind"):
        A.divergence(A, "tv")

"""Distillation: against the dense matrices of both models in float64."""

import pytest
import torch
from torch.autograd import gradcheck

import sightline
from losses.dense import MASKS, QUERIES, B, D, G, H, M, N, dense, doubles, leaves, mean, same
from sightline import losses

#: A student and a teacher of other widths, and other groups.
SHAPES = ((B, H, N, D), (B, G, M, D), (B, H, N, 3), (B, H, M, 3))
#: Self-attention with values: 4 heads of 6 and 2 groups, and 3 heads of 8.
WHOLE = ((B, 4, N, 6), (B, 2, N, 6), (B, 2, N, 6), (B, 3, N, 8), (B, 3, N, 8), (B, 3, N, 8))
SQUARE = {
    "all": None,
    "causal": sightline.causal(),
    "padding": sightline.lengths([3, N]),
    "dense": MASKS["dense"][..., :N],
}


def matrices(inputs, mask):
    half = len(inputs) // 2
    return [
        sightline.AttentionMatrix(*some, mask=mask, detach=False) for some in (inputs[:half], inputs[half:])
    ]


def kl(t, log_t, log_s):
    return (t * (log_t - log_s)).sum(-1)


@pytest.mark.parametrize("mask", MASKS)
def test_divergence(mask):
    inputs = leaves(*SHAPES, dtype=torch.float32)
    others = doubles(inputs)
    student, teacher = matrices(inputs, MASKS[mask])
    found = losses.divergence(student, teacher, queries=QUERIES["some"])
    _, log_s, seen = dense(*others[:2], MASKS[mask])
    t, log_t, _ = dense(*others[2:], MASKS[mask])
    same(found, inputs, mean(kl(t, log_t, log_s), seen.any(-1), QUERIES["some"]), others)


@pytest.mark.parametrize("stage", ["scaled", "weights"])
@pytest.mark.parametrize("mask", MASKS)
def test_tinybert(mask, stage):
    inputs = leaves(*SHAPES, dtype=torch.float32)
    others = doubles(inputs)
    student, teacher = matrices(inputs, MASKS[mask])
    found = losses.tinybert(student, teacher, stage=stage, queries=QUERIES["by entry"])
    s, _, seen = dense(*others[:2], MASKS[mask])
    t, _, _ = dense(*others[2:], MASKS[mask])
    if stage == "scaled":
        s = others[0] @ others[1].repeat_interleave(H // G, 1).mT / D**0.5
        t = others[2] @ others[3].mT / 3**0.5
    apart = ((s - t) ** 2 * seen).sum(-1) / seen.sum(-1).clamp(min=1)
    same(found, inputs, mean(apart, seen.any(-1), QUERIES["by entry"]), others)


def test_tinybert_leaves_out_cap_and_bias_and_what_a_bias_hides():
    q, k, q2, k2 = leaves(*SHAPES, dtype=torch.float32)
    bias = torch.randn(1, H, 1, M)
    bias[..., 2] = -torch.inf
    student = sightline.AttentionMatrix(q, k, bias=bias, softcap=2.0, detach=False)
    teacher = sightline.AttentionMatrix(q2, k2, bias=sightline.alibi(torch.ones(H)))
    scores = q @ k.repeat_interleave(H // G, 1).mT / D**0.5 - q2 @ k2.mT / 3**0.5
    torch.testing.assert_close(
        losses.tinybert(student, teacher), (scores[..., torch.arange(M) != 2] ** 2).mean()
    )


def by_hand(x, heads, mask, width):
    """Relations of x [B,G,N,D], cut into heads."""
    joined = x.transpose(1, 2).flatten(2)
    cut = torch.stack(joined.split(joined.shape[-1] // heads, -1), 1)
    return dense(cut, cut, mask, scale=width**-0.5)


@pytest.mark.parametrize("mask", SQUARE)
@pytest.mark.parametrize("heads", [1, 2, 6])
def test_minilmv2(mask, heads):
    inputs = leaves(*WHOLE, dtype=torch.float32)
    others = doubles(inputs)
    student, teacher = matrices(inputs, SQUARE[mask])
    found = losses.minilmv2(student, teacher, heads, queries=QUERIES["some"])
    wanted = 0
    for mine, other in zip(others[:3], others[3:], strict=True):
        _, log_s, seen = by_hand(mine, heads, SQUARE[mask], mine.shape[1] * mine.shape[3] / heads)
        t, log_t, _ = by_hand(other, heads, SQUARE[mask], 24 / heads)
        wanted = wanted + mean(kl(t, log_t, log_s), seen.any(-1), QUERIES["some"])
    same(found, inputs, wanted, others, 1e-4)


def test_minilm():
    shapes = ((B, 2, N, 6),) * 3 + ((B, 2, N, 8),) * 3
    inputs = leaves(*shapes, dtype=torch.float32)
    others = doubles(inputs)
    found = losses.minilm(*matrices(inputs, sightline.causal()))
    _, log_s, seen = dense(*others[:2], sightline.causal())
    t, log_t, _ = dense(*others[3:5], sightline.causal())
    wanted = mean(kl(t, log_t, log_s), seen.any(-1), None)
    _, log_s, _ = by_hand(others[2], 2, sightline.causal(), 6)
    t, log_t, _ = by_hand(others[5], 2, sightline.causal(), 8)
    same(found, inputs, wanted + mean(kl(t, log_t, log_s), seen.any(-1), None), others, 1e-4)


@pytest.mark.parametrize("of", ["query", "key", "value"])
def test_relation(of):
    inputs = leaves(*WHOLE[:3])
    A = sightline.AttentionMatrix(
        *inputs, mask=sightline.causal(), bias=sightline.alibi(torch.ones(4)), detach=False
    )
    x = dict(zip(("query", "key", "value"), inputs, strict=True))[of]
    for heads in (None, 3):
        count = x.shape[1] if heads is None else heads
        w, _, _ = by_hand(x, count, sightline.causal(), x.shape[1] * 6 / count)
        torch.testing.assert_close(losses.relation(A, of, heads).dense(), w)
    assert losses.relation(A.detach(), of).requires_grad is False


def test_relation_hides_what_a_bias_hides():
    inputs = leaves(*WHOLE[:3])
    hidden = torch.zeros(B, 1, 1, N).masked_fill(torch.arange(N) > 4, -torch.inf)
    A = sightline.AttentionMatrix(*inputs, bias=hidden)
    B_ = sightline.AttentionMatrix(*inputs, mask=hidden == 0)
    torch.testing.assert_close(losses.relation(A).dense(), losses.relation(B_).dense())
    assert not losses.relation(A).dense()[..., 5:].any()


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t: losses.divergence(s, t, "js"),
        losses.tinybert,
        lambda s, t: losses.minilmv2(s, t, 2),
    ],
    ids=["divergence", "tinybert", "minilmv2"],
)
def test_finite_differences(loss):
    shapes = [(1, 2, 4, 4), (1, 1, 4, 4), (1, 1, 4, 4), (1, 2, 4, 3), (1, 2, 4, 3), (1, 2, 4, 3)]

    def of(*inputs):
        return loss(*matrices(inputs, sightline.causal()))

    assert gradcheck(of, leaves(*shapes), fast_mode=True)


@pytest.mark.parametrize(
    "loss",
    [losses.divergence, losses.tinybert, lambda s, t: losses.minilmv2(s, t, 4)],
    ids=["divergence", "tinybert", "minilmv2"],
)
def test_half_precision(loss):
    inputs = leaves(*WHOLE[:3], *((B, 4, N, 8),) * 3, dtype=torch.bfloat16)
    others = doubles(inputs)
    found, wanted = (loss(*matrices(some, sightline.causal())) for some in (inputs, others))
    same(found, inputs, wanted, others, 3e-2)


def test_a_teacher_without_gradients():
    q, k, q2, k2 = leaves(*SHAPES)
    teacher = sightline.AttentionMatrix(q2, k2)
    for loss in (losses.divergence, losses.tinybert):
        found = loss(sightline.AttentionMatrix(q, k, detach=False), teacher)
        assert torch.autograd.grad(found, q2, allow_unused=True)[0] is None


def test_bad_arguments():
    student, teacher = matrices(leaves(*WHOLE), None)
    for loss in (losses.divergence, losses.tinybert, losses.minilm):
        with pytest.raises(
            ValueError, match=r"teacher: shape \[2, 3, 7, 7\] differs from the student's \[2, 4, 7, 7\]"
        ):
            loss(student, teacher)
    with pytest.raises(ValueError, match="heads: the student has 4 heads of the query, the teacher 3"):
        losses.minilmv2(student, teacher)
    with pytest.raises(
        ValueError, match=r"heads: 5 do not divide the width 24 of the query of all heads together"
    ):
        losses.minilmv2(student, teacher, 5)
    with pytest.raises(ValueError, match="student: detached, so that its loss would train nothing"):
        losses.divergence(student.detach(), student)
    with pytest.raises(ValueError, match="relation: this matrix has no values"):
        losses.relation(sightline.AttentionMatrix(student.query, student.key))
    with pytest.raises(ValueError, match=r"N=7 queries \(axis N\) and M=9 keys"):
        losses.relation(sightline.AttentionMatrix(*leaves(*SHAPES[:2])))
    by_head = torch.rand(1, 4, N, N) < 0.5
    with pytest.raises(
        ValueError, match=r"differs between the H=4 heads \(axis H\), and there are 2 relation heads"
    ):
        losses.relation(sightline.AttentionMatrix(*leaves(*WHOLE[:3]), mask=by_head))

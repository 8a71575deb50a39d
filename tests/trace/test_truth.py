"""A trace never lies: what does not explain the model's context is listed, marked, and says why."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import sightline
from sightline.tracing.verify import doubt

from .modules import CausalSelfAttention, HeadMasked, NanoGPT, SquaredReluAttention, ids

Q, K, V = torch.randn(3, 2, 4, 7, 8)


def test_dropout_is_said() -> None:
    model = NanoGPT(CausalSelfAttention(dropout=0.3), CausalSelfAttention(fused=True)).train()
    with sightline.trace(model) as trace:
        model(ids())
    assert "dropout is active" in (trace[0].reason or "")
    assert trace[1].verified
    assert bool(torch.allclose(trace[0].matrix.dense().sum(-1), torch.ones(2, 4, 9)))


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_dropout_of_the_fused_function(mode: type) -> None:
    with mode(), sightline.trace(None) as trace:
        F.scaled_dot_product_attention(Q, K, V, dropout_p=0.5)
    assert "dropout is active" in (trace[0].reason or "")


def test_neighbours_of_a_doubtful_call_stay_verified() -> None:
    model = NanoGPT(CausalSelfAttention(), HeadMasked(), CausalSelfAttention(fused=True)).eval()
    with torch.no_grad(), sightline.trace(model) as trace:
        model(ids())
    assert [call.verified for call in trace] == [True, False, True]
    assert [call.name for call in trace.unverified] == ["h.1.attn"]
    assert "after the softmax" in (trace[1].reason or "")
    matrix = trace[1].matrix
    for one in (matrix, matrix[0], matrix[:, 1:3].detach()):  # the mark goes with every part
        assert not one.verified and one.reason == trace[1].reason
    assert trace[0].matrix[0, 2].verified


def test_attention_that_is_not_recognised_is_listed() -> None:
    model = NanoGPT(CausalSelfAttention(), SquaredReluAttention()).eval()
    with torch.no_grad(), sightline.trace(model) as trace:
        model(ids())
    assert [(call.name, call.verified) for call in trace] == [("h.0.attn", True), ("h.1.attn", False)]
    assert "no attention was recognised" in (trace[1].reason or "")
    with pytest.raises(LookupError, match="h.1.attn: has no attention matrix"):
        trace[1].matrix  # noqa: B018
    assert trace[1].shape is None


def mixed_heads() -> Tensor:
    weights = torch.einsum("bhij,hg->bgij", (Q @ K.mT).softmax(-1), torch.randn(4, 4))
    return weights @ V


def renormalised() -> Tensor:
    weights = (Q @ K.mT).softmax(-1)
    weights = weights * (weights > 0.1)
    return (weights / weights.sum(-1, keepdim=True)) @ V


def clipped() -> Tensor:
    return (Q @ K.mT).softmax(-1).clamp(max=0.5) @ V


def written() -> Tensor:
    weights = (Q @ K.mT).softmax(-1)
    weights[:, :, 0] = 0.0
    return weights @ V


@pytest.mark.parametrize("change", [mixed_heads, renormalised, clipped, written])
def test_weights_that_were_changed(change: object) -> None:
    with torch.no_grad(), sightline.trace(None) as trace:
        change()  # type: ignore[operator]
        (Q @ K.mT).softmax(-1) @ V
    assert not trace[0].verified
    assert trace[-1].verified


def test_scores_that_were_written_in_part() -> None:
    with torch.no_grad(), sightline.trace(None) as trace:
        scores = Q @ K.mT
        scores[:, :, :, 0] += 3.0
        scores.softmax(-1) @ V
    torch.testing.assert_close(trace[0].matrix.dense(), scores.softmax(-1))


def test_the_judge_sees_each_kind_of_mistake() -> None:
    """A wrong key, value, scale or mask does not pass."""
    context, matrix = sightline.attention(Q, K, V, mask=sightline.causal(), return_matrix=True)
    problem = matrix.problem
    assert doubt(problem, context) is None
    from dataclasses import replace

    wrong = {
        "key": replace(problem, key=problem.key.flip(2)),
        "value": replace(problem, value=problem.value * 1.001),
        "scale": replace(problem, scale=problem.scale * 1.001),
        "mask": replace(problem, ranges=None),
        "bias": replace(problem, bias=torch.linspace(0, 0.01, 7).view(1, 1, 1, 7)),
    }
    for name, one in wrong.items():
        assert doubt(one, context) is not None, name


def test_numbers_that_are_not_finite_are_compared_as_such() -> None:
    query, key, value = torch.randn(3, 1, 2, 6, 8)
    query[0, 0, 5, 0] = math.nan
    key[0, 1, 0, 0] = math.inf
    with sightline.trace(None) as trace:
        context = (query @ key.mT / 8**0.5).softmax(-1) @ value
    assert context.isnan().any() and trace[0].verified
    problem = trace[0].matrix.problem
    assert doubt(problem, torch.zeros_like(context)) is not None
    context[~context.isnan()] += 1
    assert doubt(problem, context) is not None


def test_rows_that_see_nothing_are_not_judged() -> None:
    """Hugging Face's eager attention gives them the mean of all values; here they are 0."""
    seen = torch.ones(7, 7).tril(-2).bool()
    with torch.no_grad(), sightline.trace(None) as trace:
        (Q @ K.mT).masked_fill(~seen, torch.finfo(torch.float32).min).softmax(-1) @ V
    assert trace[0].verified
    assert bool((trace[0].matrix.dense()[:, :, :2] == 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_judge_in_every_dtype(dtype: torch.dtype) -> None:
    """Rounding passes, other numbers do not, for few and for many keys."""
    from dataclasses import replace

    for keys in (8, 600):
        query, key, value = (torch.randn(1, 4, keys, 32).to(dtype) for _ in range(3))
        eager = (query @ key.mT * 0.18).softmax(-1) @ value
        matrix = sightline.AttentionMatrix(query, key, value, scale=0.18)
        assert doubt(matrix.problem, eager) is None
        assert doubt(matrix.problem, F.scaled_dot_product_attention(query, key, value, scale=0.18)) is None
        assert doubt(replace(matrix.problem, key=key.flip(2)), eager) is not None
        assert doubt(replace(matrix.problem, scale=0.36), eager) is not None
        assert doubt(replace(matrix.problem, value=value.flip(1)), eager) is not None

"""Layers of PyTorch and of ours, fast paths, FlexAttention, checkpoints and compiled models."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention
from torch.utils.checkpoint import checkpoint

import sightline
from interventions.by_hand import HEADS, WIDTH, pair


def knocked_out(attention: nn.MultiheadAttention, x: Tensor, hidden: Tensor | None = None) -> Tensor:
    """nn.MultiheadAttention recomputed: head 1 does not see keys 2 and 3, head 0 says nothing."""
    size, heads = attention.embed_dim, attention.num_heads
    parts = zip(attention.in_proj_weight.split(size), attention.in_proj_bias.split(size), strict=True)
    query, key, value = (
        nn.functional.linear(x, w, b).unflatten(-1, (heads, -1)).transpose(1, 2) for w, b in parts
    )
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if hidden is not None:
        scores = scores.masked_fill(hidden[:, None, None], -torch.inf)
    scores[:, 1, :, 2:4] = -torch.inf
    weights = scores.softmax(-1)
    context = weights @ value
    context[:, 0] = 0
    return attention.out_proj(context.transpose(1, 2).flatten(2))


def knock_out(change: Any, layer: Any = 0) -> None:
    change.block(layer=layer, head=1, keys=[2, 3])
    change.ablate(layer=layer, head=0)


@pytest.mark.parametrize("gradients", [False, True])
def test_multihead_attention(gradients: bool) -> None:
    attention = nn.MultiheadAttention(16, 4, batch_first=True).eval()
    x = torch.randn(2, 7, 16)
    with torch.set_grad_enabled(gradients), sightline.intervene(attention) as change:
        knock_out(change)
        with sightline.trace(attention) as trace:
            output, _ = attention(x, x, x, need_weights=False)
    assert ("fast path" in trace[0].how) == (not gradients)
    assert trace[0].verified
    assert trace[0].matrix[:, 1, :, 2:4].max() == 0
    expected = knocked_out(attention, x)
    torch.testing.assert_close(output, expected)
    if gradients:
        parameters = list(attention.parameters())
        found, wanted = (torch.autograd.grad(one.sin().sum(), parameters) for one in (output, expected))
        for one, two in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("gradients", [False, True])
def test_encoder(gradients: bool, padded: bool) -> None:
    """Its fast path, on nested tensors where a mask is given, and the usual way."""
    layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True, dropout=0.0).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        encoder = nn.TransformerEncoder(layer, 1).eval()
    x = torch.randn(2, 7, 16)
    hidden = torch.zeros(2, 7, dtype=torch.bool)
    hidden[1, 5:] = padded
    with (
        torch.set_grad_enabled(gradients),
        warnings.catch_warnings(),
        sightline.intervene(encoder) as change,
    ):
        warnings.simplefilter("ignore")
        knock_out(change)
        with sightline.trace(encoder) as trace:
            output = encoder(x, src_key_padding_mask=hidden if padded else None)
    assert [call.reason for call in trace] == [None]
    assert ("fast path" in trace[0].how) == (not gradients)
    one = encoder.layers[0]
    y = one.norm1(x + knocked_out(one.self_attn, x, hidden))
    expected = one.norm2(y + one.linear2(one.linear1(y).relu()))
    torch.testing.assert_close(output[~hidden], expected[~hidden], rtol=1e-5, atol=1e-5)


def test_decoder_with_cross_attention() -> None:
    decoder = nn.TransformerDecoderLayer(16, 4, 24, batch_first=True).eval()
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    with torch.no_grad(), sightline.intervene(decoder) as change:
        change.block(layer="multihead_attn", head=2, queries=[0, 4], keys=[6])
        with sightline.trace(decoder) as trace:
            decoder(x, memory)
    assert [(call.kind, call.verified) for call in trace] == [("self", True), ("cross", True)]
    weights = trace["multihead_attn"].matrix.dense()
    assert weights[:, 2, [0, 4], 6].max() == 0
    assert weights[:, 2, 1:4, 6].min() > 0


def test_flex_attention() -> None:
    class Flexible(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return flex_attention(x, x, x)

    x = torch.randn(1, 2, 6, 16)  # on a CPU it has no gradients
    with warnings.catch_warnings(), sightline.intervene(model := Flexible()) as change:
        warnings.simplefilter("ignore")
        change.block(head=1, keys=[2, 3])
        output = model(x)
    visible = torch.ones(2, 1, 6, dtype=torch.bool)
    visible[1, :, 2:4] = False
    expected = nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=visible)
    torch.testing.assert_close(output, expected)


def test_our_own_layers() -> None:
    layer = sightline.nn.SelfAttention(32, 4, kv_heads=2)
    x = torch.randn(1, 8, 32)
    with torch.no_grad(), sightline.intervene(layer) as change:
        change.block(head=1, keys=[2])
        with sightline.trace(layer) as trace:
            layer(x, mask=sightline.causal())
    assert trace[0].verified
    assert trace[0].matrix[:, 1, :, 2].max() == 0


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_are_computed_again_with_the_change(reentrant: bool) -> None:
    _, model = pair("sdpa")
    x = torch.randn(1, 9, HEADS * WIDTH, dtype=torch.float64, requires_grad=True)
    results = []
    for again in (False, True):
        with sightline.intervene(model) as change:
            change.block(layer=1, head=1, keys=[2, 3])
            y = x
            for layer in model.layers:
                y = y + (checkpoint(layer, y, use_reentrant=reentrant) if again else layer(y))
            results.append(torch.autograd.grad(y.sin().sum(), x) if not reentrant else _backward(y, x))
    torch.testing.assert_close(results[0], results[1])


def _backward(y: Tensor, x: Tensor) -> Tensor:
    x.grad = None
    y.sin().sum().backward()
    assert x.grad is not None
    return x.grad.clone()


def test_a_compiled_model_runs_uncompiled() -> None:
    _, model = pair("sdpa", dtype=torch.float32)
    x = torch.randn(1, 9, HEADS * WIDTH)
    compiled = torch.compile(model, backend="eager")
    outputs = []
    with torch.no_grad():
        plain = compiled(x)
        for one in (model, compiled):
            with sightline.intervene(one) as change:
                change.block(layer=1, head=1, keys=[2, 3])
                outputs.append(one(x))
        again = compiled(x)
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(plain, again)
    assert not torch.allclose(outputs[0], plain)

"""A trace hands its calls to the measures, and refuses what they would get wrong."""

import pytest
import torch
from torch import nn

import sightline
from sightline import measure


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        context = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(context.transpose(1, 2).flatten(2))


@pytest.fixture
def model():
    return nn.ModuleDict({"encoder": nn.Sequential(Block(), Block()), "head": nn.Sequential(Block())})


def run(model, x):
    return model["head"](model["encoder"](x))


def test_heads_and_rollout_are_the_measures_of_the_calls(model):
    x = torch.randn(2, 7, 16)
    with torch.no_grad(), sightline.trace(model) as trace:
        run(model, x)
    labels = trace.heads()
    assert list(labels) == ["encoder.0", "encoder.1", "head.0"]
    assert labels["encoder.1"] == measure.head_labels(trace[1])
    assert list(trace.heads(under="encoder")) == ["encoder.0", "encoder.1"]
    dense = [call.matrix.dense().double().mean(1) / 2 + torch.eye(7) / 2 for call in trace]
    wanted = (dense[2] @ dense[1] @ dense[0])[:, [0, -1]]
    torch.testing.assert_close(trace.rollout([0, -1]).double(), wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        trace.rollout(-1, under="encoder").double(), (dense[1] @ dense[0])[:, -1], atol=1e-6, rtol=1e-5
    )


def test_relevance_equals_autograd_through_dense_weights(model):
    x = torch.randn(1, 6, 16)
    with sightline.trace(model, gradients=True) as trace:
        run(model, x)[0, 0, 3].backward()
    relevance = torch.eye(6, dtype=torch.float64)
    for call in trace:
        value = call.matrix.problem.value
        weights = call.matrix.dense().double()
        gradient = call.gradient.double() @ value.double().mT
        relevance = relevance + (weights * gradient).clamp(min=0).mean(1)[0] @ relevance
    torch.testing.assert_close(trace.relevance(0)[0].double(), relevance[0], atol=1e-7, rtol=1e-4)


def test_what_is_missing_is_said(model):
    with torch.no_grad(), sightline.trace(model) as trace:
        run(model, torch.randn(1, 4, 16))
    with pytest.raises(ValueError, match="no call of self-attention under 'decoder' among 3 calls"):
        trace.heads(under="decoder")
    with pytest.raises(ValueError, match=r"encoder.0: there is no gradient. Trace with gradients=True"):
        trace.relevance(0)


def test_unverified_calls_are_refused():
    layer = nn.MultiheadAttention(16, 2, dropout=0.5, batch_first=True).train()
    x = torch.randn(1, 4, 16)
    with sightline.trace(layer) as trace:
        layer(x, x, x)
    with pytest.raises(measure.UnverifiedError, match="dropout is active"):
        trace.rollout(0)
    assert trace.rollout(0, unverified=True).shape == (1, 4)

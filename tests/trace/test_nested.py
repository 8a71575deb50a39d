"""Nested tensors: ragged texts are documents of one row."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline

pytestmark = pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")

LENGTHS = (3, 7, 5)
WIDTH, HEADS = 16, 2


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor, scale: float | None = None) -> Any:
        q, k, v = (part(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv)
        return x + F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).flatten(-2)


def ragged() -> Any:
    texts = [torch.randn(length, WIDTH) for length in LENGTHS]
    return torch.nested.nested_tensor(texts, layout=torch.jagged)


@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_ragged_texts_are_documents(mode: type, scale: float | None) -> None:
    model: Any = nn.ModuleList([Attention(), Attention()]).eval()
    with mode():
        x = ragged()
        try:
            before = model[1](model[0](x, scale), scale)
        except NotImplementedError as error:  # nothing of ours has run
            pytest.skip(f"PyTorch {torch.__version__} has no {error} of nested tensors in this mode")
        with sightline.trace(model) as trace:
            after = model[1](model[0](x, scale), scale)
    assert torch.equal(before.values(), after.values())
    assert [(call.name, call.kind, call.reason) for call in trace] == [
        ("0", "self", None),
        ("1", "self", None),
    ]
    dense = trace[0].matrix.dense()[0]
    start = 0
    with torch.no_grad():
        for text in x.unbind():
            q, k, _ = (part(text).unflatten(-1, (HEADS, -1)).transpose(0, 1) for part in model[0].qkv)
            own = slice(start, start + len(text))
            factor = scale or (WIDTH // HEADS) ** -0.5
            torch.testing.assert_close(dense[:, own, own], (q @ k.mT * factor).softmax(-1))
            start += len(text)
    torch.testing.assert_close(dense.sum(-1), torch.ones(HEADS, sum(LENGTHS)))
    ranges: Any = trace[0].matrix.problem.ranges
    assert ranges.shape == (1, 1, sum(LENGTHS), 1, 2)
    assert trace.rollout(0).shape == (1, sum(LENGTHS))


def test_gradients_are_left_alone() -> None:
    model: Any = Attention()
    x = ragged()
    model(x).values().sum().backward()
    before = model.qkv[0].weight.grad.clone()
    model.zero_grad()
    with sightline.trace(model) as trace:
        model(x).values().sum().backward()
    assert trace[0].verified
    assert torch.equal(before, model.qkv[0].weight.grad)

"""Scores that a layer projects are no attention; queries that are learnt, and pooling, are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sightline

B, N, C = 2, 7, 12


class AttentionPooling(nn.Module):
    """[B,N,C] -> by one of several ways to weigh its positions."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.key, self.value, self.score = nn.Linear(C, C), nn.Linear(C, C), nn.Linear(C, 1)
        self.several, self.places, self.conv = nn.Linear(C, 4), nn.Linear(C, N), nn.Conv1d(C, 4, 1)
        self.queries = nn.Parameter(torch.randn(1, 4, C))
        self.probe = nn.MultiheadAttention(C, 2, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        value = self.value(x)
        match self.way:
            case "lambda layer":
                return self.several(x).mT.softmax(-1) @ value
            case "lambda layer, tempered":
                return (self.several(x).mT / 3 + 1).softmax(-1) @ value
            case "lambda layer by convolution":
                return self.conv(x.mT).reshape(B, 4, N).softmax(-1) @ value
            case "scores of positions":
                return self.places(x).softmax(-1) @ value
            case "mixture of experts":
                return self.several(x).softmax(-1) @ value[:, :4]
            case "learnt queries":
                return (self.queries.expand(B, -1, -1) @ self.key(x).mT).softmax(-1) @ value
            case "probe":
                return self.probe(self.queries.expand(B, -1, -1), x, x)[0]
            case "pooling":
                return self.score(self.key(x).tanh()).mT.softmax(-1) @ value
            case "additive":
                pairs = self.key(x)[:, :, None] + value[:, None]
                return self.score(pairs.tanh()).squeeze(-1).softmax(-1) @ value


def traced(way: str, mode: type) -> Any:
    torch.manual_seed(0)
    model, x = AttentionPooling(way).eval(), torch.randn(B, N, C)
    with mode(), sightline.trace(model) as trace:
        model(x)
    assert len(trace) == 1
    return trace[0]


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(
    "way",
    ["lambda layer", "lambda layer, tempered", "lambda layer by convolution", "scores of positions",
     "mixture of experts"],
)  # fmt: skip
def test_scores_that_are_projected(way: str, mode: type) -> None:
    call = traced(way, mode)
    assert call.reason == "the scores are a projection of one tensor: no query met a key"
    assert call.shape[0] == B and call.shape[1] == 1


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("way", ["learnt queries", "probe", "pooling", "additive"])
def test_queries_that_are_learnt(way: str, mode: type) -> None:
    call = traced(way, mode)
    assert call.reason is None
    rows = {"pooling": 1, "additive": N}.get(way, 4)
    assert call.shape == (B, 2 if way == "probe" else 1, rows, N)

"""A small model written by hand, in four ways; the dense one can be told what to do with its weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sightline

HEADS, WIDTH = 4, 8
WAYS = ("dense", "sdpa", "sightline", "einsum")

#: From weights [B,H,N,M] to others.
Pattern = Callable[[Tensor], Tensor]


class Attention(nn.Module):
    """Self-attention over H heads."""

    def __init__(self, way: str, causal: bool) -> None:
        super().__init__()
        self.way, self.causal = way, causal
        self.qkv = nn.Linear(HEADS * WIDTH, 3 * HEADS * WIDTH)
        self.out = nn.Linear(HEADS * WIDTH, HEADS * WIDTH)
        self.weights: Pattern = lambda weights: weights
        self.stages: Callable[[str, Tensor], Tensor] = lambda stage, tensor: tensor

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            self.stages(name, part.unflatten(-1, (HEADS, WIDTH)).transpose(1, 2))
            for name, part in zip(("query", "key", "value"), self.qkv(x).chunk(3, -1), strict=True)
        )
        context = self.stages("context", self.attend(query, key, value))
        return self.out(context.transpose(1, 2).flatten(2))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.way == "sdpa":
            return F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        if self.way == "sightline":
            return sightline.attention(query, key, value, mask=sightline.causal() if self.causal else None)
        if self.way == "einsum":
            scores = torch.einsum("bhid,bhjd->bhij", query, key) * WIDTH**-0.5
        else:
            scores = query @ key.mT / WIDTH**0.5
        if self.causal:
            n, m = scores.shape[-2:]
            scores = scores.masked_fill(~torch.ones(n, m, dtype=torch.bool).tril(), -torch.inf)
        weights = self.weights(scores.softmax(-1))
        return torch.einsum("bhij,bhjd->bhid", weights, value) if self.way == "einsum" else weights @ value


class Model(nn.Module):
    """Layers of attention with a residual stream."""

    def __init__(self, way: str = "dense", causal: bool = False, layers: int = 2) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Attention(way, causal) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def pair(way: str, causal: bool = False, dtype: torch.dtype = torch.float64) -> tuple[Model, Model]:
    """The dense model, and the same one written in another way."""
    torch.manual_seed(0)
    reference, model = Model("dense", causal).to(dtype), Model(way, causal).to(dtype)
    model.load_state_dict(reference.state_dict())
    return reference, model


def inputs(length: int = 9, batch: int = 2, dtype: torch.dtype = torch.float64) -> Tensor:
    """Something to look at."""
    return torch.randn(batch, length, HEADS * WIDTH, dtype=dtype, requires_grad=True)


def renormalised(weights: Tensor, factors: Tensor) -> Tensor:
    """Weights times factors; rows sum to 1 again, and what has nothing left is 0."""
    weights = weights * factors
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total > 0, total, 1.0)

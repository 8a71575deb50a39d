"""Attention written by hand, whose logits can be set, and models of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WIDTH, HEADS = 16, 4


class Attention(nn.Module):
    """Causal attention that keeps what it computed with."""

    def __init__(self, dropout: float = 0.0, softcap: float | None = None) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.dropout, self.softcap = nn.Dropout(dropout), softcap
        self.factor = 1.0
        self.kept: tuple[Tensor, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        scores = q @ k.mT * (self.factor / 2)
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        self.kept = tuple(t.detach() for t in (q, k, v))
        if self.softcap is not None:
            scores = (scores / self.softcap).tanh() * self.softcap
        weights = self.dropout(scores.masked_fill(hidden, -torch.inf).softmax(-1))
        return self.out((weights @ v).transpose(1, 2).flatten(2))

    def dense(self) -> dict[str, Tensor]:
        """The same in float64, without dropout."""
        q, k, v = (t.double() for t in self.kept)
        scaled = q @ k.mT * (self.factor / 2)
        hidden = torch.ones(scaled.shape[-2:], dtype=torch.bool).triu(1)
        capped = scaled if self.softcap is None else (scaled / self.softcap).tanh() * self.softcap
        weights = capped.masked_fill(hidden, -torch.inf).softmax(-1)
        return {
            "weights": weights,
            "scaled": scaled.masked_fill(hidden, -torch.inf),
            "context": weights @ v,
        }


class Model(nn.Module):
    """Some layers of it."""

    def __init__(self, layers: int = 2, **options: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Attention(**options) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + layer(norm(x))
        return x


def batch(length: int = 9) -> Tensor:
    return torch.randn(3, length, WIDTH)

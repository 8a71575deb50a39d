"""What hidden states end in: logits of tokens, of classes, of labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sightline.models.config import ClassifierConfig, Pooling, TextConfig
from sightline.models.padding import mean_rows
from sightline.nn.feed_forward import ACTIVATIONS
from sightline.nn.linear import Linear
from sightline.nn.norm import make_norm
from sightline.products import linear


class TokenHead(nn.Module):
    """Logits of tokens, [..., C] → [..., V]: with the embedding's own vectors where tied."""

    def __init__(self, config: TextConfig, *, bias: bool) -> None:
        super().__init__()
        self.weight = None if config.tied else nn.Parameter(torch.empty(config.vocabulary, config.width))
        self.bias = nn.Parameter(torch.zeros(config.vocabulary)) if bias else None
        if self.weight is not None:
            nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, vectors: Tensor) -> Tensor:
        """x [..., C] → [..., V]; ``vectors`` [V,C] are the embedding's."""
        return linear(x, vectors if self.weight is None else self.weight, self.bias)


class MaskedTokenHead(nn.Module):
    """BERT's: a layer, its norm, then logits of tokens."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.transform = Linear(config.width, config.width)
        self.activation = config.activation
        self.norm = make_norm(config.norm, config.width, config.norm_eps)
        self.tokens = TokenHead(config, bias=True)

    def forward(self, x: Tensor, vectors: Tensor) -> Tensor:
        """x [B,N,C] → [B,N,V]."""
        logits: Tensor = self.tokens(self.norm(ACTIVATIONS[self.activation](self.transform(x))), vectors)
        return logits


class ClassificationHead(nn.Module):
    """One class for each sequence: pooling, a tanh layer if the configuration has one, logits of classes."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.pooling: Pooling = config.pooling
        self.pooler = Linear(config.width, config.width) if config.pooler else None
        self.dropout = nn.Dropout(config.dropout)
        self.classes = Linear(config.width, config.classes)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """x [B,N,C] → [B,K]."""
        pooled = x[:, 0] if self.pooling == "first" else mean_rows(x, lengths)
        if self.pooler is not None:
            pooled = self.pooler(pooled).tanh()
        logits: Tensor = self.classes(self.dropout(pooled))
        return logits


class PositionHead(nn.Module):
    """Logits for each position by itself: classes of tokens, labels of speech."""

    def __init__(self, width: int, outputs: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classes = Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x [B,N,C] → [B,N,K]."""
        logits: Tensor = self.classes(self.dropout(x))
        return logits

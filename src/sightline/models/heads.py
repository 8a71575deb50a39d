"""What hidden states end in: logits of tokens, of classes, of labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.models.config import Pooling, TransformerConfig
from sightline.nn.feed_forward import ACTIVATIONS
from sightline.nn.norm import make_norm


class TokenHead(nn.Module):
    """Logits of tokens, [..., C] → [..., V]: with the embedding's own vectors where tied."""

    def __init__(self, config: TransformerConfig, *, bias: bool) -> None:
        super().__init__()
        self.weight = None if config.tied else nn.Parameter(torch.empty(config.vocabulary, config.width))
        self.bias = nn.Parameter(torch.zeros(config.vocabulary)) if bias else None
        if self.weight is not None:
            nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor, vectors: Tensor) -> Tensor:
        """x [..., C] → [..., V]; ``vectors`` [V,C] are the embedding's."""
        return F.linear(x, vectors if self.weight is None else self.weight, self.bias)


class MaskedTokenHead(nn.Module):
    """BERT's: a layer, its norm, then logits of tokens."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.transform = nn.Linear(config.width, config.width)
        self.activation = config.activation
        self.norm = make_norm(config.norm, config.width, config.norm_eps)
        self.tokens = TokenHead(config, bias=True)

    def forward(self, x: Tensor, vectors: Tensor) -> Tensor:
        """x [B,N,C] → [B,N,V]."""
        logits: Tensor = self.tokens(self.norm(ACTIVATIONS[self.activation](self.transform(x))), vectors)
        return logits


class ClassificationHead(nn.Module):
    """One class for each sequence: pooling, a tanh layer if the configuration has one, logits of classes."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.pooling: Pooling = config.pooling
        self.pooler = nn.Linear(config.width, config.width) if config.pooler else None
        self.dropout = nn.Dropout(config.dropout)
        self.classes = nn.Linear(config.width, config.classes)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """x [B,N,C] → [B,K]."""
        pooled = x[:, 0] if self.pooling == "first" else mean_pooled(x, lengths)
        if self.pooler is not None:
            pooled = self.pooler(pooled).tanh()
        logits: Tensor = self.classes(self.dropout(pooled))
        return logits


class PositionHead(nn.Module):
    """Logits for each position by itself: classes of tokens, labels of speech."""

    def __init__(self, config: TransformerConfig, outputs: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.classes = nn.Linear(config.width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """x [B,N,C] → [B,N,K]."""
        logits: Tensor = self.classes(self.dropout(x))
        return logits


def mean_pooled(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The mean of each entry's own rows: [B,N,C] → [B,C]; 0 for an entry of length 0."""
    if lengths is None:
        return x.mean(1)
    own = torch.arange(x.shape[1], device=x.device) < lengths.to(x.device)[:, None]
    return x.masked_fill(~own[..., None], 0).sum(1) / lengths.to(x)[:, None].clamp(min=1)

"""Token ids become vectors."""

from __future__ import annotations

import math

from torch import Tensor, nn

from sightline.common.check import check_integers
from sightline.models.config import TextConfig
from sightline.models.stacks import input_positions
from sightline.nn.norm import make_norm


class TokenEmbedding(nn.Module):
    """Token vector + position + segment → norm → dropout, as far as the configuration has them.

    Args:
        config: of the model.
        segments: kinds of segments; 0 for none.

    Raises:
        ValueError: for a vocabulary without tokens.
    """

    def __init__(self, config: TextConfig, segments: int = 0) -> None:
        super().__init__()
        if config.vocabulary < 1:
            raise ValueError(f"vocabulary: must be 1 or more token ids, got {config.vocabulary}.")
        self.scale = math.sqrt(config.width) if config.embedding_scale else 1.0
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.segments = nn.Embedding(segments, config.width) if segments else None
        self.positions = input_positions(config, config.max_positions)
        self.norm = (
            make_norm(config.norm, config.width, config.norm_eps) if config.embedding_norm else nn.Identity()
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, ids: Tensor, start: int | Tensor = 0, segments: Tensor | None = None) -> Tensor:
        """ids [B,N] → [B,N,C]; ``start`` is the first position; segments [B,N], by default all 0."""
        check_integers("ids", ids)
        if ids.dim() != 2:
            raise ValueError(f"ids: expected [B,N], got shape {list(ids.shape)}.")
        if segments is not None and self.segments is None:
            raise ValueError("segments: this model has none; set segments in its configuration.")
        x = self.tokens(ids) * self.scale
        if self.segments is not None:
            x = x + (self.segments.weight[0] if segments is None else self.segments(segments))
        if self.positions is not None:
            x = self.positions(x, start)
        embedded: Tensor = self.dropout(self.norm(x))
        return embedded

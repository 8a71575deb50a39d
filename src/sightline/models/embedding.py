"""Token ids become vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sightline.common.check import check_integers, kind
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

    def forward(
        self, ids: Tensor, start: int | Tensor = 0, segments: Tensor | None = None, *, name: str = "ids"
    ) -> Tensor:
        """ids [B,N] → [B,N,C]; ``start`` is the first position; segments [B,N], by default all 0.

        ``name`` is what the ids are called in an error.
        """
        check_ids(name, ids)
        if segments is not None and self.segments is None:
            raise ValueError("segments: this model has none; set segments in its configuration.")
        x = _looked_up(name, self.tokens, ids) * self.scale
        if segments is not None and self.segments is not None:
            check_ids("segments", segments)
            if segments.shape != ids.shape:
                raise ValueError(
                    f"segments: shape {list(segments.shape)} differs from that of the ids, {list(ids.shape)}."
                )
            x = x + _looked_up("segments", self.segments, segments)
        elif self.segments is not None:
            x = x + self.segments.weight[0]
        if self.positions is not None:
            x = self.positions(x, start)
        embedded: Tensor = self.dropout(self.norm(x))
        return embedded


def check_ids(name: str, ids: Tensor) -> None:
    """Raises for what is no tensor of integers [B,N]."""
    kind(name, ids, Tensor, "a tensor of integers [B,N]")
    check_integers(name, ids)
    if ids.dim() != 2:
        raise ValueError(
            f"{name}: expected [B,N], got shape {list(ids.shape)}. Add an axis with {name}[None]."
        )


def _looked_up(name: str, embedding: nn.Embedding, ids: Tensor) -> Tensor:
    """The vectors of the ids."""
    given = ids if ids.dtype in (torch.int64, torch.int32) else ids.long()
    weight = embedding.weight
    if given.device != weight.device and "forward" not in vars(embedding):  # offloaded ones move their ids
        raise ValueError(
            f"{name}: on {ids.device}, but the model is on {weight.device}. Move one with .to()."
        )
    try:
        vectors: Tensor = embedding(given)
    except IndexError:
        raise ValueError(
            f"{name}: from {int(ids.min())} to {int(ids.max())} do not all lie between 0 and "
            f"{embedding.num_embeddings - 1}, for which there are vectors."
        ) from None
    return vectors

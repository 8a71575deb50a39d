"""The BERT-like encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from sightline.masks import Mask
from sightline.matrix import AttentionMatrix
from sightline.models.config import ClassifierConfig, TextConfig
from sightline.models.embedding import TokenEmbedding, check_ids
from sightline.models.heads import ClassificationHead, MaskedTokenHead, PositionHead
from sightline.models.initialise import initialise
from sightline.models.model import Model
from sightline.models.padding import as_lengths, padding_mask
from sightline.models.stacks import encoder_stack


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(TextConfig, ClassifierConfig):
    """What an :class:`Encoder` is made of: the settings of :class:`TransformerConfig`, and its own.

    Args:
        vocabulary: V, how many token ids there are; needed.
        max_positions: how many learned positions there are. Default: 512.
        segments: kinds of segments (BERT's token types). Default: 0, none.
        head: "masked-token", "classification", "token-classification", or "none" for hidden states, which is
            the default.
        classes: K, of a classification head.
        pooling: what classification looks at: the "first" position, or the "mean" of all. Default: "mean".
        pooler: whether a tanh layer comes before the classes, as in BERT. Default: False.
        embedding_norm: whether the embedding ends in a norm. Default: False.
        embedding_scale: whether token vectors are multiplied by √C. Default: False.
        tied: whether the token vectors also make the logits of masked tokens. Default: True.
        pad: the padding id. Default: none.

    Raises:
        ValueError: for an unknown choice, sizes below 1, a classification head without classes, or a ``pad``
            outside the vocabulary.

    Example:
        >>> from sightline.models import EncoderConfig
        >>> config = EncoderConfig(width=32, vocabulary=50, head="classification", classes=3)
        >>> config.layers, config.pooling
        (4, 'mean')
    """

    head: Literal["none", "masked-token", "classification", "token-classification"] = "none"
    segments: int = 0


class Encoder(Model):
    """Tokens that all see each other: embedding → blocks → head.

    The head gives logits of the masked tokens [B,N,V] ("masked-token"), of classes of the sequence [B,K]
    ("classification") or of each token [B,N,K] ("token-classification"); "none" gives hidden states [B,N,C].

    Args:
        config: the configuration; ``vocabulary`` is needed.

    Raises:
        ValueError: for a configuration that does not fit.

    Source: Devlin et al. 2019, "BERT".

    Example:
        >>> import torch
        >>> from sightline.models import Encoder, EncoderConfig
        >>> config = EncoderConfig(width=32, layers=2, vocabulary=50, head="classification", classes=3)
        >>> model = Encoder(config).eval()
        >>> logits, matrices = model(torch.randint(50, (2, 7)), lengths=[7, 4], return_matrices=True)
        >>> logits.shape, matrices[1].shape
        (torch.Size([2, 3]), torch.Size([2, 4, 7, 7]))
    """

    config_class = EncoderConfig
    config: EncoderConfig

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.embedding = TokenEmbedding(config, config.segments)
        self.encoder = encoder_stack(config)
        self.head: nn.Module | None = None
        if config.head == "masked-token":
            self.head = MaskedTokenHead(config)
        elif config.head == "classification":
            self.head = ClassificationHead(config)
        elif config.head == "token-classification":
            self.head = PositionHead(config.width, config.classes, dropout=config.dropout)
        initialise(self)

    def forward(
        self,
        ids: Tensor,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        segments: Tensor | None = None,
        mask: Mask | Tensor | None = None,
        return_matrices: bool = False,
    ) -> Tensor | tuple[Tensor, list[AttentionMatrix]]:
        """ids [B,N] → logits, or hidden states; with ``return_matrices`` also a matrix for each block.

        Args:
            ids: [B,N] token ids, padded on the right.
            lengths: [B], how many of them count. Default: all.
            segments: [B,N] kinds of segments. Default: 0.
            mask: what may be looked at besides. Default: everything.
            return_matrices: whether to return the attention matrices as well.

        Raises:
            TypeError, ValueError: for ids, lengths or segments that are no integers, or out of range.
        """
        check_ids("ids", ids)
        own = as_lengths("lengths", lengths, ids)
        output = self.encoder(
            self.embedding(ids, segments=segments),
            mask=padding_mask(own, mask),
            return_matrices=return_matrices,
        )
        if not return_matrices:
            return self._logits(output, own)
        states, matrices = output
        return self._logits(states, own), matrices

    def _logits(self, states: Tensor, lengths: Tensor | None) -> Tensor:
        """Hidden states [B,N,C] → what the head makes of them; without one they themselves."""
        if self.head is None:
            return states
        logits: Tensor
        if isinstance(self.head, MaskedTokenHead):
            logits = self.head(states, self.embedding.tokens.weight)
        elif isinstance(self.head, ClassificationHead):
            logits = self.head(states, lengths)
        else:
            logits = self.head(states)
        return logits

"""The BERT-like encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from sightline.masks import Mask
from sightline.models.config import TransformerConfig
from sightline.models.embedding import TokenEmbedding
from sightline.models.heads import ClassificationHead, MaskedTokenHead, PositionHead
from sightline.models.initialise import initialise
from sightline.models.model import Model, as_lengths, padding_mask
from sightline.models.stacks import encoder_stack


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
        >>> from sightline.models import Encoder, TransformerConfig
        >>> config = TransformerConfig(width=32, layers=2, vocabulary=50, head="classification", classes=3)
        >>> model = Encoder(config).eval()
        >>> logits, matrices = model(torch.randint(50, (2, 7)), lengths=[7, 4], return_matrices=True)
        >>> logits.shape, matrices[1].shape
        (torch.Size([2, 3]), torch.Size([2, 4, 7, 7]))
    """

    heads_known = ("none", "masked-token", "classification", "token-classification")

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.embedding = TokenEmbedding(config)
        self.encoder = encoder_stack(config)
        self.head: nn.Module | None = None
        if config.head == "masked-token":
            self.head = MaskedTokenHead(config)
        elif config.head == "classification":
            self.head = ClassificationHead(config)
        elif config.head == "token-classification":
            self.head = PositionHead(config, config.classes)
        initialise(self)

    def forward(
        self,
        ids: Tensor,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        segments: Tensor | None = None,
        mask: Mask | Tensor | None = None,
        return_matrices: bool = False,
    ) -> Any:
        """ids [B,N] → logits, or hidden states; with ``return_matrices`` also a matrix for each block.

        Args:
            ids: [B,N] token ids, padded on the right.
            lengths: [B], how many of them count. Default: all.
            segments: [B,N] kinds of segments. Default: 0.
            mask: what may be looked at besides. Default: everything.
            return_matrices: whether to return the attention matrices as well.
        """
        own = as_lengths("lengths", lengths, ids.device)
        x = self.embedding(ids, segments=segments)
        found = self.encoder(x, mask=padding_mask(own, mask), return_matrices=return_matrices)
        x, matrices = found if return_matrices else (found, None)
        logits = self._head(x, own)
        return (logits, matrices) if return_matrices else logits

    def _head(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        if self.head is None:
            return x
        if isinstance(self.head, MaskedTokenHead):
            return self.head(x, self.embedding.tokens.weight)  # type: ignore[no-any-return]
        if isinstance(self.head, ClassificationHead):
            return self.head(x, lengths)  # type: ignore[no-any-return]
        return self.head(x)  # type: ignore[no-any-return]

"""The GPT-like decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.masks import Mask
from sightline.models.config import TransformerConfig
from sightline.models.embedding import TokenEmbedding
from sightline.models.generation import Generated, Running, generate
from sightline.models.heads import TokenHead
from sightline.models.initialise import initialise
from sightline.models.model import Model, as_lengths
from sightline.models.stacks import decoder_stack
from sightline.nn.decoder_cache import DecoderCache


class Decoder(Model):
    """Tokens that see those before them: embedding → blocks → logits of the next token.

    Args:
        config: the configuration; ``vocabulary`` is needed, ``end`` ends generated text.

    Raises:
        ValueError: for a configuration that does not fit.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners" (GPT-2).

    Example:
        >>> import torch
        >>> from sightline.models import Decoder, TransformerConfig
        >>> model = Decoder(TransformerConfig(width=32, layers=2, vocabulary=50))
        >>> model(torch.randint(50, (2, 7))).shape
        torch.Size([2, 7, 50])
        >>> model.generate(torch.randint(50, (2, 3)), new_tokens=5).tokens.shape
        torch.Size([2, 5])
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.embedding = TokenEmbedding(config)
        self.decoder = decoder_stack(config, cross_attention=False)
        self.head = TokenHead(config, bias=config.head_bias)
        initialise(self)

    def forward(
        self,
        ids: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        cache: DecoderCache | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        return_matrices: bool = False,
    ) -> Any:
        """ids [B,N] → logits [B,N,V] of each next token; with ``return_matrices`` also each block's matrix.

        Padding on the right needs no mask: no token sees what comes after it.

        Args:
            ids: [B,N] token ids.
            mask: what may be looked at besides being causal: packed documents, say. Default: all before.
            cache: from :meth:`make_cache`: what was given before; ids go on from there.
            lengths: with a cache, how many ids of each entry count, [B]. Default: all.
            return_matrices: whether to return the attention matrices as well.
        """
        found = self.states(ids, mask=mask, cache=cache, lengths=lengths, return_matrices=return_matrices)
        if not return_matrices:
            return self.logits(found)
        x, matrices = found
        return self.logits(x), matrices.self_attention

    def states(self, ids: Tensor, *, cache: DecoderCache | None = None, **options: Any) -> Any:
        """The hidden states [B,N,C] behind the logits; arguments as for the model itself."""
        start = 0 if cache is None else cache.start
        return self.decoder(self.embedding(ids, start), cache=cache, **options)

    def logits(self, states: Tensor) -> Tensor:
        """Hidden states [..., C] → logits [..., V]."""
        return self.head(states, self.embedding.tokens.weight)  # type: ignore[no-any-return]

    def make_cache(self, capacity: int | None = None) -> DecoderCache:
        """An empty cache for this model."""
        return DecoderCache(len(self.decoder.blocks), capacity)

    def generate(
        self, ids: Tensor, *, lengths: Tensor | Sequence[int] | None = None, **options: Any
    ) -> Generated:
        """What the model writes after a prompt.

        Args:
            ids: [B,N], the prompts, padded on the right; each goes on from its own end.
            lengths: [B], from 1 to N. Default: N.
            **options: as for :func:`sightline.models.generation.generate`: new_tokens, temperature, top_k,
                top_p, beams, length_penalty, candidates, end, generator.

        Raises:
            ValueError: for lengths or options out of range, or learned positions that do not suffice.
        """
        own = as_lengths("lengths", lengths, ids.device)
        return generate(Running(self), ids, own, **options)

    @property
    def room(self) -> int | None:
        """Positions at most; None for no limit."""
        return self.config.max_positions if self.config.positions == "learned" else None

    def step(self, ids: Tensor, cache: DecoderCache, lengths: Tensor | None, memory: Any = None) -> Tensor:
        """Logits [B,V] after the last token of each entry; for generation."""
        return self.logits(last_rows(self.states(ids, cache=cache, lengths=lengths), lengths))


def last_rows(x: Tensor, lengths: Tensor | None) -> Tensor:
    """The last row of each entry that counts: [B,N,C] → [B,C]."""
    if lengths is None:
        return x[:, -1]
    return x[torch.arange(x.shape[0], device=x.device), lengths - 1]

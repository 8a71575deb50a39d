"""The GPT-like decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Unpack

from torch import Tensor

from sightline.masks import Mask
from sightline.matrix import AttentionMatrix
from sightline.models.config import GenerativeConfig
from sightline.models.embedding import TokenEmbedding, check_ids
from sightline.models.generation import Decoding, Generated, GenerationOptions, Memory, generate
from sightline.models.heads import TokenHead
from sightline.models.initialise import initialise
from sightline.models.model import Model
from sightline.models.padding import as_lengths, last_rows
from sightline.models.stacks import decoder_stack
from sightline.nn.decoder_cache import DecoderCache, cached


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(GenerativeConfig):
    """What a :class:`Decoder` is made of: the settings of :class:`TransformerConfig`, and its own.

    Args:
        vocabulary: V, how many token ids there are; needed.
        max_positions: how many learned positions there are. Default: 512.
        embedding_norm: whether the embedding ends in a norm. Default: False.
        embedding_scale: whether token vectors are multiplied by √C. Default: False.
        tied: whether the token vectors also make the logits. Default: True.
        head_bias: whether logits of tokens have a bias. Default: False.
        pad: the padding id; never generated. Default: none.
        start: the id that a generated sequence begins with. Default: none.
        end: the id that ends it. Default: none.

    Raises:
        ValueError: for an unknown choice, sizes below 1, or ids outside the vocabulary.

    Example:
        >>> from sightline.models import DecoderConfig
        >>> config = DecoderConfig(width=32, vocabulary=50, positions="rotary", end=2)
        >>> config.layers, config.end
        (4, 2)
    """


class Decoder(Model):
    """Tokens that see those before them: embedding → blocks → logits of the next token.

    Token ids [B,N] give logits [B,N,V].

    Args:
        config: the configuration; ``vocabulary`` is needed, ``end`` ends generated text.

    Raises:
        ValueError: for a configuration that does not fit.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners" (GPT-2).

    Example:
        >>> import torch
        >>> from sightline.models import Decoder, DecoderConfig
        >>> model = Decoder(DecoderConfig(width=32, layers=2, vocabulary=50))
        >>> model(torch.randint(50, (2, 7))).shape
        torch.Size([2, 7, 50])
        >>> model.generate(torch.randint(50, (2, 3)), new_tokens=5).tokens.shape
        torch.Size([2, 5])
    """

    config_class = DecoderConfig
    config: DecoderConfig

    def __init__(self, config: DecoderConfig) -> None:
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
    ) -> Tensor | tuple[Tensor, list[AttentionMatrix]]:
        """ids [B,N] → logits [B,N,V] of each next token; with ``return_matrices`` also each block's matrix.

        Padding on the right needs no mask: no token sees what comes after it.

        Args:
            ids: [B,N] token ids.
            mask: what may be looked at besides being causal: packed documents, say. Default: all before.
            cache: from :meth:`make_cache`: what was given before; ids go on from there.
            lengths: with a cache, how many ids of each entry count, [B]. Default: all.
            return_matrices: whether to return the attention matrices as well.

        Raises:
            TypeError, ValueError: for ids or lengths that are no integers, or out of range.
        """
        start = 0 if cache is None else cached(cache).start
        output = self.decoder(
            self.embedding(ids, start),
            mask=mask,
            cache=cache,
            lengths=lengths,
            return_matrices=return_matrices,
        )
        if not return_matrices:
            return self.logits(output)
        states, matrices = output
        return self.logits(states), matrices.self_attention

    def states(
        self,
        ids: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        cache: DecoderCache | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> Tensor:
        """The hidden states [B,N,C] that the logits are made from; arguments as for the model itself."""
        start = 0 if cache is None else cached(cache).start
        states: Tensor = self.decoder(self.embedding(ids, start), mask=mask, cache=cache, lengths=lengths)
        return states

    def logits(self, states: Tensor) -> Tensor:
        """Hidden states [..., C] → logits [..., V]."""
        logits: Tensor = self.head(states, self.embedding.tokens.weight)
        return logits

    def make_cache(self, capacity: int | None = None) -> DecoderCache:
        """An empty cache for this model."""
        return DecoderCache(len(self.decoder.blocks), capacity)

    def generate(
        self,
        ids: Tensor,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generated:
        """What the model writes after a prompt.

        Args:
            ids: [B,N], the prompts, padded on the right; each goes on from its own end.
            lengths: [B], from 1 to N. Default: N.
            **options: as for :func:`sightline.models.generation.generate`: new_tokens, temperature, top_k,
                top_p, beams, length_penalty, no_repeat, candidates, end, generator, evict.

        Raises:
            ValueError: for lengths or options out of range, or learned positions that do not suffice.
        """
        check_ids("ids", ids)
        own = as_lengths("lengths", lengths, ids)
        return generate(Decoding(self), ids, own, **options)

    def step(
        self, ids: Tensor, cache: DecoderCache, lengths: Tensor | None, memory: Memory | None = None
    ) -> Tensor:
        """Logits [B,V] after the last token of each entry; for generation."""
        return self.logits(last_rows(self.states(ids, cache=cache, lengths=lengths), lengths))

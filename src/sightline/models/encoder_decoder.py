"""The encoder-decoder, as in the paper, BART and Marian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.models.config import TransformerConfig
from sightline.models.copying import CopyHead
from sightline.models.decoder import last_rows
from sightline.models.embedding import TokenEmbedding
from sightline.models.generation import Generated, Memory, Running, generate
from sightline.models.heads import TokenHead
from sightline.models.initialise import initialise
from sightline.models.model import Model, as_lengths, padding_mask
from sightline.models.stacks import decoder_stack, encoder_stack
from sightline.nn.decoder_cache import DecoderCache


class Matrices(NamedTuple):
    """The attention matrices of an encoder-decoder, each a list with one for each block."""

    encoder: list[AttentionMatrix]
    decoder: list[AttentionMatrix]
    cross_attention: list[AttentionMatrix]


class EncoderDecoder(Model):
    """A source is read, a target written: the decoder's tokens see those before them, and the whole source.

    Source and target share their token vectors.

    Args:
        config: the configuration; ``vocabulary``, ``start`` and ``end`` are needed to generate.

    Raises:
        ValueError: for a configuration that does not fit.

    Sources: Vaswani et al. 2017, "Attention is all you need"; Lewis et al. 2020, "BART".

    Example:
        >>> import torch
        >>> from sightline.models import EncoderDecoder, TransformerConfig
        >>> model = EncoderDecoder(TransformerConfig(width=32, layers=2, vocabulary=50, start=1, end=2))
        >>> source, target = torch.randint(3, 50, (2, 7)), torch.randint(3, 50, (2, 5))
        >>> logits, matrices = model(source, model.shifted(target), return_matrices=True)
        >>> logits.shape, matrices.cross_attention[0].shape
        (torch.Size([2, 5, 50]), torch.Size([2, 4, 5, 7]))
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.embedding = TokenEmbedding(config)  # the source's
        self.encoder = encoder_stack(config)
        self.target_embedding = TokenEmbedding(config)
        self.target_embedding.tokens = self.embedding.tokens
        self.decoder = decoder_stack(config, cross_attention=True)
        self.head = TokenHead(config, bias=config.head_bias)
        self.copying = CopyHead(config) if config.copying else None
        initialise(self)

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        *,
        source_lengths: Tensor | Sequence[int] | None = None,
        wanted: Tensor | None = None,
        return_matrices: bool = False,
    ) -> Any:
        """source [B,M], target [B,N] → logits [B,N,V] of each next target token.

        Args:
            source: [B,M] token ids, padded on the right.
            target: [B,N], what the decoder is given: see :meth:`shifted`.
            source_lengths: [B], how many ids of the source count. Default: all.
            wanted: [B,N], True at the R places whose logits are wanted; the result then is [R,V], in their
                order, and what pads a target costs nothing. Default: all places.
            return_matrices: whether to return the :class:`Matrices` as well.
        """
        own = as_lengths("source_lengths", source_lengths, source.device)
        encoded = self.encode(source, own, return_matrices=return_matrices)
        memory = encoded[0] if return_matrices else encoded
        decoded = self.decoder(
            self.target_embedding(target),
            memory,
            memory_mask=padding_mask(own),
            return_matrices=return_matrices,
        )
        whole = Memory(memory, own, source)
        if not return_matrices:
            return self.logits(decoded, whole, wanted)
        x, of_decoder = decoded
        return self.logits(x, whole, wanted), Matrices(encoded[1], *of_decoder)

    def encode(self, source: Tensor, lengths: Tensor | None = None, *, return_matrices: bool = False) -> Any:
        """source [B,M] → the memory [B,M,C] that the decoder looks at."""
        return self.encoder(
            self.embedding(source), mask=padding_mask(lengths), return_matrices=return_matrices
        )

    def logits(self, states: Tensor, memory: Memory, wanted: Tensor | None = None) -> Tensor:
        """Hidden states of the decoder [B,N,C] → logits [B,N,V], or [R,V] if wanted; with copying ln p."""
        own = states if wanted is None else states[wanted]
        logits: Tensor = self.head(own, self.embedding.tokens.weight)
        if self.copying is not None:
            logits = self.copying(logits, states, memory.states, memory.source, memory.lengths, wanted)
        return logits

    def shifted(self, target: Tensor) -> Tensor:
        """target [B,N] → what the decoder is given to learn it: ``start``, then all but the last token.

        Raises:
            ValueError: for a configuration without ``start``.
        """
        return _with_start(target, self._start())[:, :-1]

    def make_cache(self, capacity: int | None = None) -> DecoderCache:
        """An empty cache for this model's decoder."""
        return DecoderCache(len(self.decoder.blocks), capacity)

    def generate(
        self,
        source: Tensor,
        *,
        source_lengths: Tensor | Sequence[int] | None = None,
        prefix: Tensor | None = None,
        **options: Any,
    ) -> Generated:
        """What the model writes for a source.

        Args:
            source: [B,M], padded on the right.
            source_lengths: [B], how many ids of the source count. Default: all.
            prefix: [B,N], what the target begins with behind ``start``; not repeated in the result.
            **options: as for :func:`sightline.models.generation.generate`.

        Raises:
            ValueError: for a configuration without ``start``, and as :meth:`Decoder.generate`.
        """
        own = as_lengths("source_lengths", source_lengths, source.device)
        given = source.new_zeros(source.shape[0], 0) if prefix is None else prefix
        running = Running(self, lambda: Memory(self.encode(source, own), own, source))
        return generate(running, _with_start(given, self._start()), None, **options)

    @property
    def room(self) -> int | None:
        """Positions of the target at most; None for no limit."""
        return self.config.max_positions if self.config.positions == "learned" else None

    def step(self, ids: Tensor, cache: DecoderCache, lengths: Tensor | None, memory: Memory) -> Tensor:
        """Logits [B,V] after the last token of each entry; for generation."""
        x = self.decoder(
            self.target_embedding(ids, cache.start), memory.states, memory_mask=padding_mask(memory.lengths),
            cache=cache, lengths=lengths,
        )  # fmt: skip
        return self.logits(last_rows(x, lengths)[:, None], memory)[:, 0]

    def _start(self) -> int:
        if self.config.start is None:
            raise ValueError("start: the configuration names no token that a target begins with.")
        return self.config.start


def _with_start(target: Tensor, start: int) -> Tensor:
    return torch.cat((target.new_full((target.shape[0], 1), start), target), dim=1)

"""The encoder-decoder, as in the paper, BART and Marian."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Unpack, overload

import torch
from torch import Tensor

from sightline.common.check import shown
from sightline.matrix import AttentionMatrix
from sightline.models.config import GenerativeConfig
from sightline.models.copying import CopyHead
from sightline.models.embedding import TokenEmbedding, check_ids
from sightline.models.generation import Decoding, Generated, GenerationOptions, Memory, generate
from sightline.models.heads import TokenHead
from sightline.models.initialise import initialise
from sightline.models.model import Model
from sightline.models.padding import as_lengths, last_rows, padding_mask
from sightline.models.stacks import decoder_stack, encoder_stack
from sightline.nn.decoder_cache import DecoderCache


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(GenerativeConfig):
    """What an :class:`EncoderDecoder` is made of: the settings of :class:`TransformerConfig`, and its own.

    Args:
        vocabulary: V, how many token ids there are; needed.
        layers: blocks of the encoder. Default: 4.
        decoder_layers: blocks of the decoder. Default: as many as ``layers``.
        max_positions: how many learned positions there are. Default: 512.
        embedding_norm: whether the embeddings end in a norm. Default: False.
        embedding_scale: whether token vectors are multiplied by √C. Default: False.
        tied: whether the token vectors also make the logits. Default: True.
        head_bias: whether logits of tokens have a bias. Default: False.
        copying: whether tokens of the source may be copied, see :class:`sightline.models.copying.CopyHead`;
            the model then gives ln p. Default: False.
        pad: the padding id; never generated. Default: none.
        start: the id that a target begins with; needed to train and to generate.
        end: the id that ends it. Default: none.

    Raises:
        ValueError: for an unknown choice, sizes below 1, or ids outside the vocabulary.

    Example:
        >>> from sightline.models import EncoderDecoderConfig
        >>> config = EncoderDecoderConfig(width=32, layers=6, decoder_layers=2, vocabulary=50, start=1, end=2)
        >>> config.layers, config.decoder_layers
        (6, 2)
    """

    decoder_layers: int | None = None
    copying: bool = False


class Matrices(NamedTuple):
    """The attention matrices of an encoder-decoder, each a list with one for each block.

    Attributes:
        encoder: [B,H,M,M], each source token over the source.
        decoder: [B,H,N,N], each target token over those before it.
        cross_attention: [B,H,N,M], each target token over the source.

    Example:
        >>> import torch
        >>> from sightline.models import EncoderDecoder, EncoderDecoderConfig
        >>> model = EncoderDecoder(EncoderDecoderConfig(width=16, heads=2, layers=3, vocabulary=9))
        >>> source, target = torch.randint(9, (1, 7)), torch.randint(9, (1, 5))
        >>> _, matrices = model(source, target, return_matrices=True)
        >>> len(matrices.encoder), matrices.decoder[0].shape
        (3, torch.Size([1, 2, 5, 5]))
    """

    encoder: list[AttentionMatrix]
    decoder: list[AttentionMatrix]
    cross_attention: list[AttentionMatrix]


class EncoderDecoder(Model):
    """A source is read, a target written: the decoder's tokens see those before them, and the whole source.

    Source [B,M] and target [B,N] are token ids and share their vectors; the result is the logits [B,N,V] of
    each next target token.

    Args:
        config: the configuration; ``vocabulary``, ``start`` and ``end`` are needed to generate.

    Raises:
        ValueError: for a configuration that does not fit.

    Sources: Vaswani et al. 2017, "Attention is all you need"; Lewis et al. 2020, "BART".

    Example:
        >>> import torch
        >>> from sightline.models import EncoderDecoder, EncoderDecoderConfig
        >>> model = EncoderDecoder(EncoderDecoderConfig(width=32, layers=2, vocabulary=50, start=1, end=2))
        >>> source, target = torch.randint(3, 50, (2, 7)), torch.randint(3, 50, (2, 5))
        >>> logits, matrices = model(source, model.shifted(target), return_matrices=True)
        >>> logits.shape, matrices.cross_attention[0].shape
        (torch.Size([2, 5, 50]), torch.Size([2, 4, 5, 7]))
    """

    config_class = EncoderDecoderConfig
    config: EncoderDecoderConfig

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__(config)
        self.embedding = TokenEmbedding(config)  # the source's
        self.encoder = encoder_stack(config)
        self.target_embedding = TokenEmbedding(config)
        self.target_embedding.tokens = self.embedding.tokens
        self.decoder = decoder_stack(config, config.decoder_layers, cross_attention=True)
        self.head = TokenHead(config, bias=config.head_bias)
        self.copying = CopyHead(config.width) if config.copying else None
        initialise(self)

    def forward(
        self,
        source: Tensor,
        target: Tensor,
        *,
        source_lengths: Tensor | Sequence[int] | None = None,
        wanted: Tensor | None = None,
        return_matrices: bool = False,
    ) -> Tensor | tuple[Tensor, Matrices]:
        """source [B,M], target [B,N] → logits [B,N,V] of each next target token.

        Args:
            source: [B,M] token ids, padded on the right.
            target: [B,N], what the decoder is given: see :meth:`shifted`.
            source_lengths: [B], how many ids of the source count. Default: all.
            wanted: [B,N], True at the R places whose logits are wanted; the result then is [R,V], in their
                order, and what pads a target costs nothing. Default: all places.
            return_matrices: whether to return the :class:`Matrices` as well.

        Raises:
            TypeError, ValueError: for ids or lengths that are no integers, or out of range.
        """
        check_ids("source", source)
        check_ids("target", target)
        if wanted is not None and (not isinstance(wanted, Tensor) or wanted.dtype != torch.bool):
            raise TypeError(f"wanted: expected a bool tensor [B,N], got {shown(wanted)}.")
        if wanted is not None and wanted.shape != target.shape:
            raise ValueError(
                f"wanted: shape {list(wanted.shape)} differs from the target's {list(target.shape)}."
            )
        own = as_lengths("source_lengths", source_lengths, source)
        encoded = self.encode(source, own, return_matrices=return_matrices)
        states, of_encoder = encoded if isinstance(encoded, tuple) else (encoded, [])
        decoded = self.decoder(
            self.target_embedding(target, name="target"),
            states,
            memory_mask=padding_mask(own),
            return_matrices=return_matrices,
        )
        memory = Memory(states, own, source)
        if not return_matrices:
            return self.logits(decoded, memory, wanted)
        x, of_decoder = decoded
        return self.logits(x, memory, wanted), Matrices(of_encoder, *of_decoder)

    @overload
    def encode(
        self, source: Tensor, lengths: Tensor | None = None, *, return_matrices: Literal[False] = False
    ) -> Tensor: ...

    @overload
    def encode(
        self, source: Tensor, lengths: Tensor | None = None, *, return_matrices: bool
    ) -> Tensor | tuple[Tensor, list[AttentionMatrix]]: ...

    def encode(
        self, source: Tensor, lengths: Tensor | None = None, *, return_matrices: bool = False
    ) -> Tensor | tuple[Tensor, list[AttentionMatrix]]:
        """source [B,M], of which ``lengths`` count → the memory [B,M,C] that the decoder looks at."""
        memory: Tensor | tuple[Tensor, list[AttentionMatrix]] = self.encoder(
            self.embedding(source, name="source"), mask=padding_mask(lengths), return_matrices=return_matrices
        )
        return memory

    def logits(self, states: Tensor, memory: Memory, wanted: Tensor | None = None) -> Tensor:
        """Hidden states of the decoder [B,N,C] → logits [B,N,V], or [R,V] if wanted; with copying ln p."""
        own = states if wanted is None else states[wanted]
        logits: Tensor = self.head(own, self.embedding.tokens.weight)
        if self.copying is not None:
            logits = self.copying(logits, states, memory.states, memory.source, memory.lengths, wanted)
        return logits

    def shifted(self, target: Tensor) -> Tensor:
        """target [B,N] → the decoder's input in training: ``start``, then all but the last token.

        Raises:
            ValueError: for a configuration without ``start``.
        """
        check_ids("target", target)
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
        **options: Unpack[GenerationOptions],
    ) -> Generated:
        """What the model writes for a source.

        Args:
            source: [B,M], padded on the right.
            source_lengths: [B], how many ids of the source count. Default: all.
            prefix: [B,N], what the target begins with after ``start``; not repeated in the result.
            **options: as for :func:`sightline.models.generation.generate`.

        Raises:
            ValueError: for a configuration without ``start``, and as :meth:`Decoder.generate`.
        """
        check_ids("source", source)
        own = as_lengths("source_lengths", source_lengths, source)
        given = source.new_zeros(source.shape[0], 0) if prefix is None else prefix
        check_ids("prefix", given)
        if given.shape[0] != source.shape[0]:
            raise ValueError(
                f"prefix: batch {given.shape[0]} differs from the source's {source.shape[0]} (axis B)."
            )
        decoding = Decoding(
            self, lambda: Memory(self.encode(source, own), own, source), read_again=self.copying is not None
        )
        return generate(decoding, _with_start(given, self._start()), None, **options)

    def step(self, ids: Tensor, cache: DecoderCache, lengths: Tensor | None, memory: Memory | None) -> Tensor:
        """Logits [B,V] after the last token of each entry; for generation.

        Raises:
            ValueError: without a memory.
        """
        if memory is None:
            raise ValueError("memory: none was given, but a target is written for a source. Give encode()'s.")
        x = self.decoder(
            self.target_embedding(ids, cache.start), memory.states, memory_mask=padding_mask(memory.lengths),
            cache=cache, lengths=lengths,
        )  # fmt: skip
        return self.logits(last_rows(x, lengths)[:, None], memory)[:, 0]

    def _start(self) -> int:
        if self.config.start is None:
            raise ValueError("start: the configuration names no token for a target to begin with.")
        return self.config.start


def _with_start(target: Tensor, start: int) -> Tensor:
    return torch.cat((target.new_full((target.shape[0], 1), start), target), dim=1)

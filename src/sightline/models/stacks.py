"""From the configuration to stacks of blocks and to positions."""

from __future__ import annotations

from torch import nn

from sightline.models.config import TransformerConfig
from sightline.nn.alibi import Alibi
from sightline.nn.positions import LearnedPositions, SinusoidalPositions
from sightline.nn.relative import RelativePositions
from sightline.nn.rotary import Rotary
from sightline.nn.transformer_block import BlockOptions
from sightline.nn.transformer_decoder import TransformerDecoder
from sightline.nn.transformer_encoder import TransformerEncoder


def encoder_stack(config: TransformerConfig) -> TransformerEncoder:
    """The blocks of an encoder."""
    return TransformerEncoder(
        config.layers, config.width, config.heads,
        positions=_biases(config, bidirectional=True), window=config.window,
        global_every=config.global_every, **_block(config),
    )  # fmt: skip


def decoder_stack(
    config: TransformerConfig, layers: int | None = None, *, cross_attention: bool
) -> TransformerDecoder:
    """The blocks of a decoder, alone or with a memory; ``None`` for as many as ``config.layers``."""
    return TransformerDecoder(
        layers or config.layers, config.width, config.heads, cross_attention=cross_attention,
        positions=_biases(config, bidirectional=False), window=config.window,
        global_every=config.global_every, **_block(config),
    )  # fmt: skip


def input_positions(config: TransformerConfig, length: int) -> nn.Module | None:
    """The positions that are added to the input vectors, if they are of that kind.

    Args:
        config: of the model.
        length: how many there are, if they are learned.
    """
    if config.positions == "learned":
        return LearnedPositions(length, config.width)
    if config.positions in ("sinusoidal", "sinusoidal-halves"):
        return SinusoidalPositions(config.width, interleaved=config.positions == "sinusoidal")
    return None


def _biases(config: TransformerConfig, bidirectional: bool) -> Alibi | RelativePositions | None:
    if config.positions == "alibi":
        return Alibi(config.heads)
    if config.positions == "relative":
        return RelativePositions(config.heads, bidirectional=bidirectional)
    return None


def _block(config: TransformerConfig) -> BlockOptions:
    return BlockOptions(
        kv_heads=config.kv_heads,
        hidden=config.hidden,
        activation=config.activation,
        norm=config.norm,
        norm_first=config.norm_first,
        norm_eps=config.norm_eps,
        bias=config.bias,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        rotary=_rotary(config) if config.positions == "rotary" else None,
    )


def _rotary(config: TransformerConfig) -> Rotary:
    return Rotary(config.width // config.heads, share=config.rotary_share)

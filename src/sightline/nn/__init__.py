"""Layers of Transformers: attention, positions, blocks, stacks, and what they keep between calls."""

from sightline.nn.alibi import Alibi, alibi_slopes
from sightline.nn.convolution import ConvolutionModule
from sightline.nn.cross_attention import CrossAttention
from sightline.nn.decoder_cache import DecoderCache
from sightline.nn.eviction import EvictionRule, HeavyHitters, LastQuery, SnapKV
from sightline.nn.feed_forward import FeedForward
from sightline.nn.kv_cache import KVCache
from sightline.nn.linear import Linear
from sightline.nn.mean_over_heads import MeanOverHeads
from sightline.nn.multihead_attention import MultiheadAttention
from sightline.nn.positions import LearnedPositions, SinusoidalPositions, sinusoidal
from sightline.nn.relative import RelativePositions
from sightline.nn.rotary import Rotary
from sightline.nn.self_attention import SelfAttention
from sightline.nn.transformer_block import BlockMatrices, BlockOptions, TransformerBlock
from sightline.nn.transformer_decoder import DecoderMatrices, TransformerDecoder
from sightline.nn.transformer_encoder import TransformerEncoder

__all__ = [
    "Alibi",
    "BlockMatrices",
    "BlockOptions",
    "ConvolutionModule",
    "CrossAttention",
    "DecoderCache",
    "DecoderMatrices",
    "EvictionRule",
    "FeedForward",
    "HeavyHitters",
    "KVCache",
    "LastQuery",
    "LearnedPositions",
    "Linear",
    "MeanOverHeads",
    "MultiheadAttention",
    "RelativePositions",
    "Rotary",
    "SelfAttention",
    "SinusoidalPositions",
    "SnapKV",
    "TransformerBlock",
    "TransformerDecoder",
    "TransformerEncoder",
    "alibi_slopes",
    "sinusoidal",
]

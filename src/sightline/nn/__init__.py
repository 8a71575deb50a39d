"""Layers and what they keep between calls."""

from sightline.nn.kv_cache import KVCache
from sightline.nn.positions import LearnedPositions, alibi_slopes, sinusoidal
from sightline.nn.rotary import Rotary
from sightline.nn.self_attention import CrossAttention, SelfAttention

__all__ = [
    "CrossAttention",
    "KVCache",
    "LearnedPositions",
    "Rotary",
    "SelfAttention",
    "alibi_slopes",
    "sinusoidal",
]

"""Layers and what they keep between calls."""

from sightline.nn.kv_cache import KVCache

__all__ = ["KVCache"]

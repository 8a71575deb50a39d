"""Keys leave the cache of a Transformers model, by scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.nn.kept import kept_rows, rows_of_heads


def evict(
    cache: Any, scores: Sequence[Tensor], keep: int, *, recent: int = 0, sinks: int = 0
) -> list[Tensor]:
    """Keeps the ``keep`` best keys and values of each layer and key/value head; see :meth:`KVCache.evict`.

    The keys that are left keep the angles of their positions, but the cache is shorter than the text, and the
    model counts positions by it: give ``position_ids`` from then on. A batch must not be padded.

    Args:
        cache: a ``DynamicCache``, ``past_key_values`` of a model's output. Changed in place.
        scores: [B,G,M] for each layer: :mod:`sightline.nn.scores` of ``output.attentions``, say.
        keep, recent, sinks: as for :meth:`KVCache.evict`.

    Returns:
        For each layer [B,G,K] int64, which of the M rows stay.

    Raises:
        TypeError: for another cache, or one that slides by itself; ValueError: for scores that do not fit.

    Example:
        >>> import torch, sightline.huggingface
        >>> from sightline.nn.scores import received
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> config = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2)
        >>> model = GPT2LMHeadModel._from_config(config, attn_implementation="sightline").eval()
        >>> with torch.no_grad():
        ...     prompt = model(torch.randint(50, (1, 20)), use_cache=True, output_attentions=True)
        ...     cache, scores = prompt.past_key_values, [received(A) for A in prompt.attentions]
        ...     kept = sightline.huggingface.evict(cache, scores, 8, recent=4)
        ...     places = torch.tensor([[20]])
        ...     step = model(torch.tensor([[7]]), past_key_values=cache, position_ids=places)
        >>> kept[0].shape, cache.get_seq_length()
        (torch.Size([1, 2, 8]), 9)
    """
    layers = getattr(cache, "layers", None)
    if layers is None or not all(_grows(layer) for layer in layers):
        raise TypeError(
            f"cache: must be a DynamicCache whose layers keep everything, got {type(cache).__name__}. "
            "Static and sliding caches have places of their own for keys."
        )
    if len(scores) != len(layers):
        raise ValueError(f"scores: {len(scores)} for a cache of {len(layers)} layers. Give [B,G,M] for each.")
    kept = [
        _rows(layer, of_layer, keep, recent, sinks) for layer, of_layer in zip(layers, scores, strict=True)
    ]
    for layer, rows in zip(layers, kept, strict=True):
        layer.keys, layer.values = (rows_of_heads(one, rows) for one in (layer.keys, layer.values))
    return kept


def _grows(layer: Any) -> bool:
    """Whether a layer of a cache holds what it was given, row by row."""
    return type(layer).__name__ == "DynamicLayer" and getattr(layer, "keys", None) is not None


def _rows(layer: Any, scores: Tensor, keep: int, recent: int, sinks: int) -> Tensor:
    b, g, m, _ = layer.keys.shape
    places = torch.arange(m, device=layer.keys.device).expand(b, g, m)
    return kept_rows(scores, places, [m] * b, keep, recent, sinks)

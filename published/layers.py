"""A Transformer that Tracr compiled, as layers of Sightline."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.models import Decoder, DecoderConfig, Encoder, EncoderConfig
from sightline.nn import SelfAttention


def as_model(compiled: Any, length: int) -> nn.Module:
    """The model of `compile_rasp_to_model` with the same residual stream, in its first dimensions.

    Heads of Tracr are as wide as they need to be, ours a share of the stream: what is left is 0.
    """
    weights = {
        name: {part: torch.from_numpy(np.array(value)) for part, value in of.items()}
        for name, of in compiled.params.items()
    }
    settings = compiled.model_config
    heads, key_size = settings.num_heads, settings.key_size
    vocabulary, width = weights["token_embed"]["embeddings"].shape
    head_width = max(key_size, -(-width // heads))
    options: dict[str, Any] = {
        "vocabulary": vocabulary, "width": heads * head_width, "heads": heads, "layers": settings.num_layers,
        "hidden": settings.mlp_hidden_size, "max_positions": length, "activation": "relu",
    }  # fmt: skip
    made = Decoder(DecoderConfig(**options)) if settings.causal else Encoder(EncoderConfig(**options))
    stack = made.decoder if isinstance(made, Decoder) else made.encoder
    blocks: list[Any] = list(stack.blocks)
    embedding: Any = made.embedding
    _without_norms(made)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
        embedding.tokens.weight[:, :width] = weights["token_embed"]["embeddings"]
        embedding.positions.weight[:, :width] = weights["pos_embed"]["embeddings"][:length]
        for at, block in enumerate(blocks):
            layer = {part: weights[f"transformer/layer_{at}/{part}"] for part in _PARTS}
            _attention(block.self_attention, layer, heads, key_size)
            for part, linear in (
                ("mlp/linear_1", block.feed_forward.input),
                ("mlp/linear_2", block.feed_forward.output),
            ):
                _fill(linear.weight, layer[part]["w"].T)
                _fill(linear.bias, layer[part]["b"])
    return made.eval()


_PARTS = ("attn/query", "attn/key", "attn/value", "attn/linear", "mlp/linear_1", "mlp/linear_2")


def _attention(ours: SelfAttention, layer: dict[str, dict[str, Tensor]], heads: int, key_size: int) -> None:
    # Ours divides by the root of the wider head.
    wider = (ours.head_width / key_size) ** 0.5
    for part, linear, factor in (
        ("query", ours.query, wider),
        ("key", ours.key, 1.0),
        ("value", ours.value, 1.0),
    ):
        _fill(
            linear.weight.unflatten(0, (heads, -1)),
            factor * layer[f"attn/{part}"]["w"].T.unflatten(0, (heads, -1)),
        )
        _fill(
            linear.bias.unflatten(0, (heads, -1)),
            factor * layer[f"attn/{part}"]["b"].unflatten(0, (heads, -1)),
        )
    _fill(ours.output.weight.unflatten(1, (heads, -1)), layer["attn/linear"]["w"].T.unflatten(1, (heads, -1)))
    _fill(ours.output.bias, layer["attn/linear"]["b"])


def _fill(target: Tensor, values: Tensor) -> None:
    """Puts values into the first entries of each axis."""
    target[tuple(slice(size) for size in values.shape)] = values


def _without_norms(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, (nn.LayerNorm, nn.RMSNorm)):
                setattr(module, name, nn.Identity())

"""``torch.nn``'s stacks of layers, with the weights and the dropout of Sightline's stacks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sightline.models import TransformerConfig
from sightline.nn import TransformerDecoder, TransformerEncoder
from sightline.nn.feed_forward import ACTIVATIONS


def torch_layers(
    config: TransformerConfig, stack: TransformerEncoder | TransformerDecoder
) -> nn.TransformerDecoder | nn.TransformerEncoder:
    """``torch.nn.TransformerDecoder`` for a stack with cross-attention, ``TransformerEncoder`` for others.

    Raises:
        ValueError: for a stack with weights that torch.nn's layers do not have.
    """
    sizes: dict[str, Any] = {
        "d_model": config.width, "nhead": config.heads,
        "dim_feedforward": 4 * config.width if config.hidden is None else config.hidden,
        "dropout": 0.0, "activation": ACTIVATIONS[config.activation], "layer_norm_eps": config.norm_eps,
        "batch_first": True, "norm_first": config.norm_first,
    }  # fmt: skip
    norm = nn.LayerNorm(config.width, eps=config.norm_eps) if config.norm_first else None
    depth = len(stack.blocks)
    layers: nn.TransformerDecoder | nn.TransformerEncoder
    if stack.blocks[0].cross_attention is not None:
        layers = nn.TransformerDecoder(nn.TransformerDecoderLayer(**sizes), depth, norm)
    else:
        layer = nn.TransformerEncoderLayer(**sizes)
        layers = nn.TransformerEncoder(layer, depth, norm, enable_nested_tensor=False)
    _check_same_size(layers, stack)
    with torch.no_grad():
        for theirs, ours in zip(layers.layers, stack.blocks, strict=True):
            _copy_block(theirs, ours)
            _set_dropout(theirs, config)
        if norm is not None:
            _copy(norm, stack.norm)
    return layers


def _check_same_size(layers: nn.Module, stack: nn.Module) -> None:
    theirs, ours = (sum(p.numel() for p in each.parameters()) for each in (layers, stack))
    if ours != theirs:
        raise ValueError(
            f"model: its blocks have {ours:,} weights, those of torch.nn {theirs:,}; they are not the same "
            f"architecture."
        )


def _copy_block(theirs: Any, ours: Any) -> None:
    _copy_attention(theirs.self_attn, ours.self_attention)
    norms = [ours.self_attention_norm, ours.feed_forward_norm]
    if ours.cross_attention is not None:
        _copy_attention(theirs.multihead_attn, ours.cross_attention)
        norms.insert(1, ours.cross_attention_norm)
    for number, norm in enumerate(norms, 1):
        _copy(getattr(theirs, f"norm{number}"), norm)
    _copy(theirs.linear1, ours.feed_forward.input)
    _copy(theirs.linear2, ours.feed_forward.output)


def _copy_attention(theirs: Any, ours: Any) -> None:
    """In ``torch.nn``, query, key and value share one matrix."""
    projections = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.copy_(torch.cat([each.weight for each in projections]))
    theirs.in_proj_bias.copy_(torch.cat([each.bias for each in projections]))
    _copy(theirs.out_proj, ours.output)


def _copy(theirs: nn.Module, ours: nn.Module) -> None:
    theirs.load_state_dict(ours.state_dict())


def _set_dropout(layer: nn.Module, config: TransformerConfig) -> None:
    """Sets dropout on what joins the residual stream, and on the attention weights as configured.

    ``torch.nn`` has one rate for these and for the inside of its feed-forward layer, where ours has none.
    """
    for name, module in layer.named_children():
        if isinstance(module, nn.Dropout):
            module.p = 0.0 if name == "dropout" else config.dropout
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = config.attention_dropout

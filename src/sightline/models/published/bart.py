"""BART and Marian: post-norm encoder-decoders that share their token vectors.

BART has learned positions, of which the first two stand for nothing, and a norm behind the embedding; Marian
has sinusoidal ones, all sines before all cosines, and none.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from sightline.models.encoder_decoder import EncoderDecoder
from sightline.models.published.settings import activation, refuse, token
from sightline.models.published.weights import Weights

_KNOWN = ("BartForConditionalGeneration", "MarianMTModel")
_UNUSED_POSITIONS = 2


def config(theirs: Any, architecture: str) -> dict[str, Any]:
    """Our configuration."""
    marian = theirs.model_type == "marian"
    refuse(
        theirs, tie_word_embeddings=True, share_encoder_decoder_embeddings=True,
        decoder_attention_heads=theirs.encoder_attention_heads, decoder_ffn_dim=theirs.encoder_ffn_dim,
    )  # fmt: skip
    if architecture not in _KNOWN:
        raise ValueError(f"source: {architecture} is not known; known: {', '.join(_KNOWN)}.")
    return {
        "width": theirs.d_model,
        "heads": theirs.encoder_attention_heads,
        "layers": theirs.encoder_layers,
        "decoder_layers": theirs.decoder_layers,
        "hidden": theirs.encoder_ffn_dim,
        "vocabulary": theirs.vocab_size,
        "positions": "sinusoidal-halves" if marian else "learned",
        "max_positions": theirs.max_position_embeddings,
        "activation": activation(theirs.activation_function),
        "norm_first": False,
        "embedding_norm": not marian,
        "embedding_scale": theirs.scale_embedding,
        "head_bias": True,
        "dropout": theirs.dropout,
        "attention_dropout": theirs.attention_dropout,
        "pad": token(theirs.pad_token_id, theirs.vocab_size),
        "start": token(theirs.decoder_start_token_id, theirs.vocab_size),
        "end": token(theirs.eos_token_id, theirs.vocab_size),
    }


def carry(weights: Weights, model: EncoderDecoder, theirs: Any, head: str) -> None:
    """The weights."""
    weights.layer(model.embedding.tokens, "model.shared")
    sides = {"encoder": (model.embedding, model.encoder), "decoder": (model.target_embedding, model.decoder)}
    for side, (embedding, stack) in sides.items():
        if model.config.positions == "learned":
            rows = weights.get(f"model.{side}.embed_positions.weight")[_UNUSED_POSITIONS:]
            weights.copy(embedding.get_parameter("positions.weight"), rows)
            weights.layer(embedding.norm, f"model.{side}.layernorm_embedding")
        for i, block in enumerate(stack.blocks):
            _block(weights, block, f"model.{side}.layers.{i}", crosses=side == "decoder")
    assert model.head.bias is not None
    weights.copy(model.head.bias, weights.get("final_logits_bias")[0])


def _block(weights: Weights, block: nn.Module, theirs: str, *, crosses: bool) -> None:
    attentions = {"self_attention": "self_attn", **({"cross_attention": "encoder_attn"} if crosses else {})}
    projections = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
    for ours, name in attentions.items():
        weights.layers(
            block, {f"{ours}.{mine}": f"{theirs}.{name}.{its}" for mine, its in projections.items()}
        )
        weights.layers(block, {f"{ours}_norm": f"{theirs}.{name}_layer_norm"})
    weights.layers(
        block,
        {
            "feed_forward.input": f"{theirs}.fc1",
            "feed_forward.output": f"{theirs}.fc2",
            "feed_forward_norm": f"{theirs}.final_layer_norm",
        },
    )

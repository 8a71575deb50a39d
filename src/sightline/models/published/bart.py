"""BART and Marian: post-norm encoder-decoders that share their token vectors.

BART has learned positions, of which the first two are unused, and a norm after the embedding; Marian
has sinusoidal ones, all sines before all cosines, and none.
"""

from __future__ import annotations

from typing import Any

from sightline.models.published.family import Family
from sightline.models.published.settings import activation, refuse, token
from sightline.models.published.weights import PublishedWeights

_KNOWN = ("BartForConditionalGeneration", "MarianMTModel")
_UNUSED_POSITIONS = 2
_PROJECTIONS = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "out_proj"}
_BLOCK = {
    "feed_forward.input": "fc1",
    "feed_forward.output": "fc2",
    "feed_forward_norm": "final_layer_norm",
}


def _attention(ours: str, theirs: str) -> dict[str, str]:
    names = {f"{ours}.{mine}": f"{theirs}.{name}" for mine, name in _PROJECTIONS.items()}
    return {**names, f"{ours}_norm": f"{theirs}_layer_norm"}


_SELF_ATTENTION = _attention("self_attention", "self_attn")
_CROSS_ATTENTION = _attention("cross_attention", "encoder_attn")


def _config(theirs: Any, architecture: str) -> dict[str, Any]:
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


def _carry(weights: PublishedWeights, theirs: Any, head: str) -> None:
    """The weights."""
    weights.layers({"embedding.tokens": "model.shared"})
    for side, embedding in (("encoder", "embedding"), ("decoder", "target_embedding")):
        if weights.wants(f"{embedding}.positions.weight"):
            rows = weights.get(f"model.{side}.embed_positions.weight")[_UNUSED_POSITIONS:]
            weights.copy(f"{embedding}.positions.weight", rows)
            weights.layers({f"{embedding}.norm": f"model.{side}.layernorm_embedding"})
        weights.blocks(f"{side}.blocks", f"model.{side}.layers", _BLOCK | _SELF_ATTENTION)
    weights.blocks("decoder.blocks", "model.decoder.layers", _CROSS_ATTENTION)
    weights.copy("head.bias", weights.get("final_logits_bias")[0])


BART = Family("EncoderDecoder", _config, _carry)

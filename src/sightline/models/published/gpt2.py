"""GPT-2: pre-norm, learned positions; its projections are stored as [in, out]."""

from __future__ import annotations

from typing import Any

from sightline.models.published.family import Family
from sightline.models.published.settings import activation, refuse, token
from sightline.models.published.weights import PublishedWeights

_TRANSPOSED = {
    "attn.c_attn": ["self_attention.query", "self_attention.key", "self_attention.value"],
    "attn.c_proj": ["self_attention.output"],
    "mlp.c_fc": ["feed_forward.input"],
    "mlp.c_proj": ["feed_forward.output"],
}


def _config(theirs: Any, architecture: str) -> dict[str, Any]:
    """Our configuration."""
    refuse(
        theirs, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False,
        tie_word_embeddings=True,
    )  # fmt: skip
    if architecture not in ("GPT2LMHeadModel", "GPT2Model"):
        raise ValueError(f"source: {architecture} is not known; known: GPT2LMHeadModel, GPT2Model.")
    return {
        "width": theirs.n_embd,
        "heads": theirs.n_head,
        "layers": theirs.n_layer,
        "hidden": theirs.n_inner,
        "vocabulary": theirs.vocab_size,
        "max_positions": theirs.n_positions,
        "activation": activation(theirs.activation_function),
        "norm_eps": theirs.layer_norm_epsilon,
        "dropout": theirs.resid_pdrop,
        "attention_dropout": theirs.attn_pdrop,
        "pad": token(theirs.pad_token_id, theirs.vocab_size),
        "start": token(theirs.bos_token_id, theirs.vocab_size),
        "end": token(theirs.eos_token_id, theirs.vocab_size),
    }


def _carry(weights: PublishedWeights, theirs: Any, head: str) -> None:
    """The weights."""
    at = "" if type(theirs).__name__ == "GPT2Model" else "transformer."
    weights.layers({"embedding.tokens": f"{at}wte", "embedding.positions": f"{at}wpe"})
    weights.blocks("decoder.blocks", f"{at}h", {"self_attention_norm": "ln_1", "feed_forward_norm": "ln_2"})
    for i in range(weights.count("decoder.blocks")):
        for stored, ours in _TRANSPOSED.items():
            _carry_transposed(weights, [f"decoder.blocks.{i}.{name}" for name in ours], f"{at}h.{i}.{stored}")
    weights.layers({"decoder.norm": f"{at}ln_f"})


def _carry_transposed(weights: PublishedWeights, ours: list[str], theirs: str) -> None:
    """One stored projection becomes one or several of ours."""
    parts = weights.get(f"{theirs}.weight").T.chunk(len(ours)), weights.get(f"{theirs}.bias").chunk(len(ours))
    for name, weight, bias in zip(ours, *parts, strict=True):
        weights.copy(f"{name}.weight", weight)
        weights.copy(f"{name}.bias", bias)


GPT2 = Family("Decoder", _config, _carry)

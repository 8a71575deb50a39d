"""GPT-2: pre-norm, learned positions; its projections are stored as [in, out]."""

from __future__ import annotations

from typing import Any

from torch import nn

from sightline.models.decoder import Decoder
from sightline.models.published.settings import activation, refuse, token
from sightline.models.published.weights import Weights


def config(theirs: Any, architecture: str) -> dict[str, Any]:
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


def carry(weights: Weights, model: Decoder, theirs: Any, head: str) -> None:
    """The weights."""
    at = "" if type(theirs).__name__ == "GPT2Model" else "transformer."
    weights.layers(model.embedding, {"tokens": f"{at}wte", "positions": f"{at}wpe"})
    for i, block in enumerate(model.decoder.blocks):
        of_block = f"{at}h.{i}"
        attention, feed_forward = block.get_submodule("self_attention"), block.get_submodule("feed_forward")
        weights.layers(
            block, {"self_attention_norm": f"{of_block}.ln_1", "feed_forward_norm": f"{of_block}.ln_2"}
        )
        _transposed(weights, [attention.query, attention.key, attention.value], f"{of_block}.attn.c_attn")
        _transposed(weights, [attention.output], f"{of_block}.attn.c_proj")
        _transposed(weights, [feed_forward.input], f"{of_block}.mlp.c_fc")
        _transposed(weights, [feed_forward.output], f"{of_block}.mlp.c_proj")
    weights.layer(model.decoder.norm, f"{at}ln_f")


def _transposed(weights: Weights, ours: list[Any], theirs: str) -> None:
    """One stored projection becomes one or several of ours."""
    parts = weights.get(f"{theirs}.weight").T.chunk(len(ours)), weights.get(f"{theirs}.bias").chunk(len(ours))
    for layer, weight, bias in zip(ours, *parts, strict=True):
        assert isinstance(layer, nn.Linear)
        weights.copy(layer.weight, weight)
        weights.copy(layer.bias, bias)

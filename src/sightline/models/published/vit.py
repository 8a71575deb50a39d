"""ViT: pre-norm on patches, with a first vector that the classes are read from."""

from __future__ import annotations

from typing import Any

from sightline.models.published.family import Family
from sightline.models.published.settings import activation, refuse
from sightline.models.published.weights import PublishedWeights

_HEADS = {"ViTModel": "none", "ViTForImageClassification": "classification"}
_BLOCK = {
    "self_attention.query": "attention.q_proj",
    "self_attention.key": "attention.k_proj",
    "self_attention.value": "attention.v_proj",
    "self_attention.output": "attention.o_proj",
    "self_attention_norm": "layernorm_before",
    "feed_forward.input": "mlp.fc1",
    "feed_forward.output": "mlp.fc2",
    "feed_forward_norm": "layernorm_after",
}


def _config(theirs: Any, architecture: str) -> dict[str, Any]:
    """Our configuration."""
    refuse(theirs, qkv_bias=True)
    if architecture not in _HEADS:
        raise ValueError(f"source: {architecture} is not known; known: {', '.join(_HEADS)}.")
    for name in ("image_size", "patch_size"):
        if not isinstance(getattr(theirs, name), int):
            raise ValueError(f"source: {name}={getattr(theirs, name)!r} is not supported, only squares.")
    head = _HEADS[architecture]
    return {
        "width": theirs.hidden_size,
        "heads": theirs.num_attention_heads,
        "layers": theirs.num_hidden_layers,
        "hidden": theirs.intermediate_size,
        "activation": activation(theirs.hidden_act),
        "norm_eps": theirs.layer_norm_eps,
        "dropout": theirs.hidden_dropout_prob,
        "attention_dropout": theirs.attention_probs_dropout_prob,
        "image_size": theirs.image_size,
        "patch_size": theirs.patch_size,
        "channels": theirs.num_channels,
        "head": head,
        "classes": theirs.num_labels if head == "classification" else 0,
        "pooling": "first",
    }


def _carry(weights: PublishedWeights, theirs: Any, head: str) -> None:
    """The weights."""
    at = "" if type(theirs).__name__ == "ViTModel" else "vit."
    weights.layers({"patches": f"{at}embeddings.patch_embeddings.projection"})
    weights.layers({"encoder.norm": f"{at}layernorm"})
    weights.copy("first", f"{at}embeddings.cls_token")
    weights.copy("positions.weight", weights.get(f"{at}embeddings.position_embeddings")[0])
    weights.blocks("encoder.blocks", f"{at}layers", _BLOCK)
    if head == "classification":
        weights.layers({"head.classes": "classifier"})


VIT = Family("VisionEncoder", _config, _carry)

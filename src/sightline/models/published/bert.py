"""BERT and its kin (MiniLM, sentence encoders): post-norm, learned positions, segments."""

from __future__ import annotations

from typing import Any

from sightline.models.published.family import Family
from sightline.models.published.settings import activation, refuse, token
from sightline.models.published.weights import PublishedWeights

_HEADS = {
    "BertModel": "none",
    "BertForMaskedLM": "masked-token",
    "BertForPreTraining": "masked-token",
    "BertForSequenceClassification": "classification",
    "BertForTokenClassification": "token-classification",
}
_EMBEDDING = {"tokens": "word_embeddings", "positions": "position_embeddings", "norm": "LayerNorm"}
_BLOCK = {
    "self_attention.query": "attention.self.query",
    "self_attention.key": "attention.self.key",
    "self_attention.value": "attention.self.value",
    "self_attention.output": "attention.output.dense",
    "self_attention_norm": "attention.output.LayerNorm",
    "feed_forward.input": "intermediate.dense",
    "feed_forward.output": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_HEAD_LAYERS: dict[str, dict[str, str]] = {
    "none": {},
    "masked-token": {
        "head.transform": "cls.predictions.transform.dense",
        "head.norm": "cls.predictions.transform.LayerNorm",
        "head.tokens": "cls.predictions",
    },
    "classification": {"head.pooler": "bert.pooler.dense", "head.classes": "classifier"},
    "token-classification": {"head.classes": "classifier"},
}


def _config(theirs: Any, architecture: str) -> dict[str, Any]:
    """Our configuration."""
    refuse(theirs, is_decoder=False, tie_word_embeddings=True, position_embedding_type="absolute")
    if architecture not in _HEADS:
        raise ValueError(f"source: {architecture} is not known; known: {', '.join(_HEADS)}.")
    head = _HEADS[architecture]
    return {
        "width": theirs.hidden_size,
        "heads": theirs.num_attention_heads,
        "layers": theirs.num_hidden_layers,
        "hidden": theirs.intermediate_size,
        "vocabulary": theirs.vocab_size,
        "segments": theirs.type_vocab_size,
        "max_positions": theirs.max_position_embeddings,
        "activation": activation(theirs.hidden_act),
        "norm_first": False,
        "norm_eps": theirs.layer_norm_eps,
        "embedding_norm": True,
        "dropout": theirs.hidden_dropout_prob,
        "attention_dropout": theirs.attention_probs_dropout_prob,
        "pad": token(theirs.pad_token_id, theirs.vocab_size),
        "head": head,
        "classes": theirs.num_labels if head.endswith("classification") else 0,
        "pooling": "first",
        "pooler": head == "classification",
    }


def _carry(weights: PublishedWeights, theirs: Any, head: str) -> None:
    """The weights."""
    at = "" if type(theirs).__name__ == "BertModel" else "bert."
    weights.layers(_EMBEDDING, "embedding.", f"{at}embeddings.")
    if weights.wants("embedding.segments.weight"):
        weights.copy("embedding.segments.weight", f"{at}embeddings.token_type_embeddings.weight")
    weights.blocks("encoder.blocks", f"{at}encoder.layer", _BLOCK)
    weights.layers(_HEAD_LAYERS[head])


BERT = Family("Encoder", _config, _carry)

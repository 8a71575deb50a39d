"""A Transformer that Tracr compiled, run in PyTorch with `sightline.attention`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import haiku
import numpy as np
import torch
from torch import Tensor

import sightline
from published.line import largest
from sightline import AttentionMatrix


@dataclass(frozen=True)
class Run:
    """What came out, and all that happened on the way.

    Attributes:
        output: the program's values, without the one for the start.
        residuals: the residual stream after each half layer.
        matrices: one per layer.
        tokens: their numbers, that of the start first.
    """

    output: list[Any]
    residuals: list[Tensor]
    matrices: list[AttentionMatrix]
    tokens: Tensor


def run(model: Any, tokens: list[Any]) -> Run:
    """Run an assembled model of Tracr; ``tokens`` begin with its token for the start."""
    weights = {
        name: {part: _tensor(value) for part, value in of.items()} for name, of in model.params.items()
    }
    config = model.model_config
    ids = torch.tensor(model.input_encoder.encode(tokens))
    stream = weights["token_embed"]["embeddings"][ids] + weights["pos_embed"]["embeddings"][: len(ids)]
    stream = stream[None]
    residuals, matrices = [], []

    def linear(name: str, given: Tensor) -> Tensor:
        return given @ weights[name]["w"] + weights[name]["b"]

    for at in range(config.num_layers):
        heads, mlp = f"transformer/layer_{at}/attn", f"transformer/layer_{at}/mlp"
        query, key, value = (
            linear(f"{heads}/{part}", stream).unflatten(-1, (config.num_heads, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mask = sightline.causal() if config.causal else None
        context, matrix = sightline.attention(query, key, value, mask=mask, return_matrix=True)
        stream = stream + linear(f"{heads}/linear", context.transpose(1, 2).flatten(2))
        residuals.append(stream)
        stream = stream + linear(f"{mlp}/linear_2", linear(f"{mlp}/linear_1", stream).relu())
        residuals.append(stream)
        matrices.append(matrix)
    return Run(_decoded(model, stream), residuals, matrices, ids)


def differences(model: Any, tokens: list[Any], ours: Run) -> tuple[float, float]:
    """How far Tracr's own run lies from ours: the residual stream and the weights, at most."""
    theirs = model.apply(tokens)
    streams = zip(theirs.residuals, ours.residuals, strict=True)
    weights = zip(theirs.attn_logits, ours.matrices, strict=True)
    return (
        largest(float((_tensor(left) - right).abs().max()) for left, right in streams),
        largest(float((_tensor(left).softmax(-1) - right.dense()).abs().max()) for left, right in weights),
    )


def _decoded(model: Any, stream: Tensor) -> list[Any]:
    """By Tracr's own unembedding, which is no weight of the model."""

    def unembed(given: Any) -> Any:
        module = model.get_compiled_model()
        return module.unembed(given, use_unembed_argmax=module.use_unembed_argmax)

    applied = haiku.without_apply_rng(haiku.transform(unembed)).apply({}, stream.numpy())
    values = applied[0].tolist()
    return list(model.output_encoder.decode(values) if model.output_encoder else values)[1:]


def _tensor(value: Any) -> Tensor:
    return torch.from_numpy(np.array(value))

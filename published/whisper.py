"""Whisper from CTranslate2's variables: their names in Transformers, and the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

from published.ctranslate2 import read_model

# Of the English models: text ends, a transcript starts, and what came before, and no time stamps follow.
END, START, BEFORE, TIMELESS = 50256, 50257, 50360, 50362

Variables = dict[str, Tensor]

KIND: Any = transformers  # whose types know little of what it takes


def load(folder: Path) -> tuple[Any, Any, Any, list[tuple[int, int]]]:
    """(model, tokenizer, what makes features of sound, its published alignment heads as (layer, head))."""
    variables = {
        name: torch.from_numpy(value.copy()).float()
        for name, value in read_model(folder / "model.bin").items()
    }
    said = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = KIND.WhisperForConditionalGeneration(configured(variables)).eval()
    model.load_state_dict(dict(renamed(variables)))
    model.generation_config = _generation(said)
    tokenizer = KIND.WhisperTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    heads = [(layer, head) for layer, head in said["alignment_heads"]]
    return model, tokenizer, KIND.WhisperFeatureExtractor(), heads


def layers(variables: Variables, side: str) -> int:
    """How many layers the encoder or the decoder has."""
    return len(
        {name.split("/")[1] for name in variables if name.startswith(f"{side}/layer_")} - {"layer_norm"}
    )


def configured(variables: Variables) -> Any:
    """Their sizes as a configuration of Transformers."""
    words, width = variables["decoder/embeddings/weight"].shape
    sides: dict[str, int] = {}
    for side in ("encoder", "decoder"):
        sides |= {
            f"{side}_layers": layers(variables, side),
            f"{side}_attention_heads": int(variables[f"{side}/num_heads"]),
            f"{side}_ffn_dim": len(variables[f"{side}/layer_0/ffn/linear_0/bias"]),
        }
    return KIND.WhisperConfig(
        vocab_size=words,
        d_model=width,
        num_mel_bins=variables["encoder/conv1/weight"].shape[1],
        max_source_positions=len(variables["encoder/position_encodings/encodings"]),
        max_target_positions=len(variables["decoder/position_encodings/encodings"]),
        decoder_start_token_id=START,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), END),
        **sides,
    )


def _generation(said: dict[str, Any]) -> Any:
    return KIND.GenerationConfig(
        alignment_heads=said["alignment_heads"],
        suppress_tokens=said["suppress_ids"],
        begin_suppress_tokens=said["suppress_ids_begin"],
        is_multilingual=False,
        max_length=448,
        max_initial_timestamp_index=50,
        no_timestamps_token_id=TIMELESS,
        prev_sot_token_id=BEFORE,
        decoder_start_token_id=START,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), END),
    )


def renamed(variables: Variables) -> Iterator[tuple[str, Tensor]]:
    """Every weight under its name in Transformers."""
    for convolution in ("conv1", "conv2"):
        yield from _linear(variables, f"encoder/{convolution}", f"model.encoder.{convolution}")
    for name in ("model.decoder.embed_tokens.weight", "proj_out.weight"):
        yield name, variables["decoder/embeddings/weight"]
    for side in ("encoder", "decoder"):
        yield f"model.{side}.embed_positions.weight", variables[f"{side}/position_encodings/encodings"]
        yield from _norm(variables, f"{side}/layer_norm", f"model.{side}.layer_norm")
        for at in range(layers(variables, side)):
            yield from _layer(variables, f"{side}/layer_{at}", f"model.{side}.layers.{at}")


def _layer(variables: Variables, old: str, new: str) -> Iterator[tuple[str, Tensor]]:
    own, cross = f"{old}/self_attention", f"{old}/attention"
    yield from _projections(variables, f"{own}/linear_0", f"{new}.self_attn", "qkv")
    yield from _linear(variables, f"{own}/linear_1", f"{new}.self_attn.out_proj")
    yield from _norm(variables, f"{own}/layer_norm", f"{new}.self_attn_layer_norm")
    if f"{cross}/linear_0/weight" in variables:
        yield from _projections(variables, f"{cross}/linear_0", f"{new}.encoder_attn", "q")
        yield from _projections(variables, f"{cross}/linear_1", f"{new}.encoder_attn", "kv")
        yield from _linear(variables, f"{cross}/linear_2", f"{new}.encoder_attn.out_proj")
        yield from _norm(variables, f"{cross}/layer_norm", f"{new}.encoder_attn_layer_norm")
    yield from _linear(variables, f"{old}/ffn/linear_0", f"{new}.fc1")
    yield from _linear(variables, f"{old}/ffn/linear_1", f"{new}.fc2")
    yield from _norm(variables, f"{old}/ffn/layer_norm", f"{new}.final_layer_norm")


def _projections(variables: Variables, old: str, new: str, which: str) -> Iterator[tuple[str, Tensor]]:
    """Projections that CTranslate2 keeps as one. Whisper's keys have no bias: theirs is zero there."""
    weights, biases = (variables[f"{old}/{part}"].chunk(len(which)) for part in ("weight", "bias"))
    for letter, weight, bias in zip(which, weights, biases, strict=True):
        yield f"{new}.{letter}_proj.weight", weight
        if letter != "k":
            yield f"{new}.{letter}_proj.bias", bias


def _linear(variables: Variables, old: str, new: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{new}.weight", variables[f"{old}/weight"]
    yield f"{new}.bias", variables[f"{old}/bias"]


def _norm(variables: Variables, old: str, new: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{new}.weight", variables[f"{old}/gamma"]
    yield f"{new}.bias", variables[f"{old}/beta"]

"""Whisper's weights find their names in Transformers again."""

from __future__ import annotations

import pytest
import torch

hf = pytest.importorskip("transformers")

from published import whisper  # noqa: E402

SIZES = {
    "d_model": 8,
    "num_mel_bins": 4,
    "max_source_positions": 10,
    "max_target_positions": 448,
    "vocab_size": 11,
}
SIDES = {
    f"{side}_{what}": value
    for side, of in {"encoder": (1, 2, 12), "decoder": (2, 4, 16)}.items()
    for what, value in zip(("layers", "attention_heads", "ffn_dim"), of, strict=True)
}


def converted(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state of Transformers under CTranslate2's names, projections of one input side by side."""

    def part(name: str, what: str) -> torch.Tensor:
        value = state.get(f"{name}.{what}")
        return torch.zeros(len(state[f"{name}.weight"])) if value is None else value

    found = {"decoder/embeddings/weight": state["proj_out.weight"]}
    for side in ("encoder", "decoder"):
        names = {f"{side}/layer_norm": f"model.{side}.layer_norm"}
        found[f"{side}/position_encodings/encodings"] = state[f"model.{side}.embed_positions.weight"]
        found[f"{side}/num_heads"] = torch.tensor(SIDES[f"{side}_attention_heads"])
        for at in range(SIDES[f"{side}_layers"]):
            old, new = f"{side}/layer_{at}", f"model.{side}.layers.{at}"
            names |= {f"{old}/self_attention/layer_norm": f"{new}.self_attn_layer_norm"}
            names |= {f"{old}/ffn/layer_norm": f"{new}.final_layer_norm"}
            projections = {f"{old}/self_attention/linear_0": (f"{new}.self_attn", "qkv")}
            linear = {f"{old}/self_attention/linear_1": f"{new}.self_attn.out_proj"}
            linear |= {f"{old}/ffn/linear_0": f"{new}.fc1", f"{old}/ffn/linear_1": f"{new}.fc2"}
            if side == "decoder":
                names |= {f"{old}/attention/layer_norm": f"{new}.encoder_attn_layer_norm"}
                projections |= {f"{old}/attention/linear_0": (f"{new}.encoder_attn", "q")}
                projections |= {f"{old}/attention/linear_1": (f"{new}.encoder_attn", "kv")}
                linear |= {f"{old}/attention/linear_2": f"{new}.encoder_attn.out_proj"}
            for key, (name, letters) in projections.items():
                for what in ("weight", "bias"):
                    found[f"{key}/{what}"] = torch.cat([part(f"{name}.{one}_proj", what) for one in letters])
            for key, name in linear.items():
                found |= {f"{key}/{what}": state[f"{name}.{what}"] for what in ("weight", "bias")}
        for key, name in names.items():
            found |= {f"{key}/gamma": state[f"{name}.weight"], f"{key}/beta": state[f"{name}.bias"]}
    for name in ("conv1", "conv2"):
        found |= {
            f"encoder/{name}/{what}": state[f"model.encoder.{name}.{what}"] for what in ("weight", "bias")
        }
    return found


def test_every_weight_has_its_place_and_every_size_is_found():
    small = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"), 1)
    torch.manual_seed(0)
    config = hf.WhisperConfig(**SIZES, **SIDES, **small, suppress_tokens=None, begin_suppress_tokens=None)
    state = {
        name: torch.randn_like(value)
        for name, value in hf.WhisperForConditionalGeneration(config).state_dict().items()
    }
    state["model.decoder.embed_tokens.weight"] = state["proj_out.weight"]
    variables = converted(state)
    found = dict(whisper.renamed(variables))
    assert found.keys() == state.keys()
    for name, value in found.items():
        assert torch.equal(value, state[name]), name
    again = whisper.configured(variables)
    assert {name: getattr(again, name) for name in SIZES | SIDES} == SIZES | SIDES

"""Tiny random models of the families that must be traced unchanged, each with inputs and its own weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import transformers as hf
from torch import Tensor

from huggingface.tiny_models import DECODERS, ENCODERS, SEQ2SEQS, arguments, padding, tokens

Build = Callable[[], tuple[type[Any], Any]]

VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
          "image_size": 16, "patch_size": 4}  # fmt: skip
TEXT = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 40, "max_position_embeddings": 32}  # fmt: skip


class Family(NamedTuple):
    """How a model is built and called.

    Attributes:
        build: its class and configuration.
        inputs: what it is called with.
        calls: how many attention calls there are.
    """

    build: Build
    inputs: Callable[[], dict[str, Any]]
    calls: int


def _text(name: str, padded: bool) -> Callable[[], dict[str, Any]]:
    side = "left" if name in DECODERS else "right"
    return lambda: arguments(name, tokens(2, 9), padding(side, 9, (9, 6)) if padded else None)


def _pixels() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def _whisper() -> tuple[type[Any], Any]:
    config = hf.WhisperConfig(
        vocab_size=61, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=40, decoder_ffn_dim=40, num_mel_bins=8,
        max_source_positions=10, max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    return hf.WhisperForConditionalGeneration, config


def _wav2vec2() -> tuple[type[Any], Any]:
    config = hf.Wav2Vec2Config(
        vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
        conv_dim=(16, 16), conv_stride=(4, 2), conv_kernel=(8, 3), num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, mask_time_prob=0.0,
    )  # fmt: skip
    return hf.Wav2Vec2Model, config


FAMILIES: dict[str, Family] = {
    **{name: Family(build, _text(name, True), 2) for name, build in (ENCODERS | DECODERS).items()},
    **{name: Family(build, _text(name, True), 6) for name, build in SEQ2SEQS.items()},
    "vit": Family(
        lambda: (hf.ViTModel, hf.ViTConfig(**VISION)), lambda: {"pixel_values": _pixels()}, 2
    ),
    "clip": Family(
        lambda: (
            hf.CLIPModel,
            hf.CLIPConfig(text_config=TEXT | {"eos_token_id": 2}, vision_config=VISION, projection_dim=16),
        ),
        lambda: {"input_ids": tokens(2, 7), "pixel_values": _pixels()},
        4,
    ),
    "whisper": Family(
        _whisper,
        lambda: {
            "input_features": torch.randn(2, 8, 20, generator=torch.Generator().manual_seed(1)),
            "decoder_input_ids": tokens(2, 10),
        },
        6,
    ),
    "wav2vec2": Family(
        _wav2vec2,
        lambda: {"input_values": torch.randn(2, 120, generator=torch.Generator().manual_seed(1))},
        2,
    ),
}  # fmt: skip

TOKENS = {"input_ids": tokens(2, 16)}
#: Older and less usual ones: (class, configuration, inputs, kinds of the calls).
FURTHER: dict[str, tuple[str, str, dict[str, Any], dict[str, Any], list[str]]] = {
    "deberta": ("DebertaV2Model", "DebertaV2Config",
                TEXT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 16},
                TOKENS, ["self"] * 2),
    "bloom": ("BloomModel", "BloomConfig", {"vocab_size": 61, "hidden_size": 32, "n_layer": 2, "n_head": 4},
              TOKENS, ["self"] * 2),
    "mpt": ("MptModel", "MptConfig", {"vocab_size": 61, "d_model": 32, "n_layers": 2, "n_heads": 4},
            TOKENS, ["self"] * 2),
    "xlnet": ("XLNetModel", "XLNetConfig",
              {"vocab_size": 61, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 40}, TOKENS, ["self"] * 2),
    "falcon": ("FalconModel", "FalconConfig",
               {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
                "alibi": True}, TOKENS, ["self"] * 2),
    "deepseek": ("DeepseekV3Model", "DeepseekV3Config",
                 TEXT | {"num_key_value_heads": 4, "moe_intermediate_size": 16, "n_routed_experts": 4,
                         "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1, "q_lora_rank": 16,
                         "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
                         "first_k_dense_replace": 1}, TOKENS, ["self"] * 2),
    "swin 2": ("Swinv2Model", "Swinv2Config",
               {"image_size": 16, "patch_size": 2, "embed_dim": 16, "depths": [2], "num_heads": [2],
                "window_size": 4}, {"pixel_values": _pixels()}, ["self"] * 2),
    "segformer": ("SegformerModel", "SegformerConfig",
                  {"depths": [1, 1], "num_encoder_blocks": 2, "hidden_sizes": [16, 32], "sr_ratios": [2, 1],
                   "num_attention_heads": [1, 2], "patch_sizes": [7, 3], "strides": [2, 2], "mlp_ratios": [2, 2]},
                  {"pixel_values": _pixels()}, ["self"] * 2),
    "perceiver": ("PerceiverModel", "PerceiverConfig",
                  {"num_latents": 8, "d_latents": 16, "d_model": 16, "num_blocks": 1,
                   "num_self_attends_per_block": 1, "num_self_attention_heads": 2,
                   "num_cross_attention_heads": 2},
                  {"inputs": torch.randn(2, 12, 16, generator=torch.Generator().manual_seed(1))},
                  ["cross", "self"]),
}  # fmt: skip


def make(name: str, implementation: str) -> Any:
    """The model of a family under an attention implementation; the same weights each time."""
    model_class, config = FAMILIES[name].build()
    torch.manual_seed(0)
    model = model_class._from_config(config, attn_implementation=implementation)
    for parameter_name, parameter in model.named_parameters():
        if "sinks" in parameter_name or "relative_attention_bias" in parameter_name:
            torch.nn.init.normal_(parameter)
        elif parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def supports(name: str, implementation: str) -> bool:
    """Whether Transformers runs a family under an implementation."""
    if implementation == "sdpa":
        return name not in ("gemma2", "gpt_oss")
    return True


def weights_of(outputs: Any) -> list[tuple[str, Tensor]]:
    """(kind, dense weights) of everything that ``output_attentions=True`` gave."""
    found = []
    for kind, name in (
        ("self", "encoder_attentions"),
        ("self", "decoder_attentions"),
        ("cross", "cross_attentions"),
        ("self", "attentions"),
    ):
        found += [(kind, weights) for weights in getattr(outputs, name, None) or ()]
    for part in ("text_model_output", "vision_model_output"):
        if getattr(outputs, part, None) is not None:
            found += weights_of(getattr(outputs, part))
    return found

"""Tiny random models of many families, built from configurations: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import Tensor

import sightline.huggingface  # noqa: F401  (registers "sightline")

VOCABULARY = 61
TEXT = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 40, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2}  # fmt: skip
GQA = TEXT | {"num_key_value_heads": 2}
SEQ2SEQ = {"vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2,
           "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 40,
           "decoder_ffn_dim": 40, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1,
           "eos_token_id": 2, "decoder_start_token_id": 1, "forced_eos_token_id": None}  # fmt: skip
MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}

Build = Callable[[], tuple[type[Any], Any]]

ENCODERS: dict[str, Build] = {
    "bert": lambda: (hf.BertModel, hf.BertConfig(**TEXT)),
    "distilbert": lambda: (
        hf.DistilBertModel,
        hf.DistilBertConfig(vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=40),
    ),
    "modernbert": lambda: (
        hf.ModernBertModel,
        hf.ModernBertConfig(**TEXT, local_attention=6, global_attn_every_n_layers=2, cls_token_id=1,
                            sep_token_id=2),
    ),
}  # fmt: skip
DECODERS: dict[str, Build] = {
    "gpt2": lambda: (
        hf.GPT2LMHeadModel,
        hf.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128, pad_token_id=0,
                      bos_token_id=1, eos_token_id=2),
    ),
    "llama": lambda: (hf.LlamaForCausalLM, hf.LlamaConfig(**GQA)),
    "mistral": lambda: (hf.MistralForCausalLM, hf.MistralConfig(**GQA, sliding_window=4)),
    "gemma2": lambda: (
        hf.Gemma2ForCausalLM,
        hf.Gemma2Config(**GQA, head_dim=8, sliding_window=4, attn_logit_softcapping=0.5,
                        final_logit_softcapping=30.0, query_pre_attn_scalar=8),
    ),
    "gpt_oss": lambda: (
        hf.GptOssForCausalLM,
        hf.GptOssConfig(**GQA, **MOE, head_dim=8, sliding_window=4, rope_parameters=ROPE),
    ),
}  # fmt: skip
SEQ2SEQS: dict[str, Build] = {
    "t5": lambda: (
        hf.T5ForConditionalGeneration,
        hf.T5Config(vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=4,
                    relative_attention_num_buckets=8, relative_attention_max_distance=16,
                    decoder_start_token_id=0, pad_token_id=0, eos_token_id=1, dropout_rate=0.0),
    ),
    "bart": lambda: (hf.BartForConditionalGeneration, hf.BartConfig(**SEQ2SEQ)),
    "marian": lambda: (hf.MarianMTModel, hf.MarianConfig(**SEQ2SEQ)),
}  # fmt: skip
REQUIRED = ("bert", "gpt2", "llama", "t5")


def pair(build: Build, **changes: Any) -> tuple[Any, Any]:
    """The same random model twice: under sightline and under eager."""
    models = []
    for implementation in ("sightline", "eager"):
        model_class, config = build()
        for name, value in changes.items():
            setattr(config, name, value)
        torch.manual_seed(0)
        model = model_class._from_config(config, attn_implementation=implementation)
        for name, parameter in model.named_parameters():
            if "sinks" in name or "relative_attention_bias" in name:
                torch.nn.init.normal_(parameter)  # they start at 0, where a mistake would not show
            elif parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)  # scores of order 1
        models.append(model.eval())
    return models[0], models[1]


def tokens(batch: int, length: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCABULARY, (batch, length), generator=generator)


def padding(side: str, length: int, used: tuple[int, ...]) -> Tensor:
    """[B, length] of 0 and 1: entry b has ``used[b]`` tokens, the padding is on one side or in between."""
    mask = torch.zeros(len(used), length, dtype=torch.long)
    for row, count in zip(mask, used, strict=True):
        if side == "right":
            row[:count] = 1
        elif side == "left":
            row[length - count :] = 1
        else:
            row[: count // 2] = 1
            row[length - (count - count // 2) :] = 1
    return mask


def arguments(name: str, ids: Tensor, mask: Tensor | None) -> dict[str, Any]:
    """Model inputs; an encoder-decoder also gets something to decode."""
    inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    if name in SEQ2SEQS:
        inputs["decoder_input_ids"] = tokens(ids.shape[0], 7, seed=2)
    return inputs


def assert_equal(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)

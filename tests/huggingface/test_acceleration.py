"""Models of Transformers, accelerated and back."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
    WhisperConfig,
    WhisperForConditionalGeneration,
)  # fmt: skip

import sightline
from sightline.huggingface import accelerate
from sightline.huggingface.acceleration import LinearConv1D

IDS = torch.arange(3, 19).reshape(2, 8)
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
MODELS = {
    "bert": (BertForSequenceClassification, BertConfig(**SMALL, vocab_size=99), {"input_ids": IDS}),
    "gpt2": (GPT2LMHeadModel, GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=99), {"input_ids": IDS}),
    "llama": (LlamaForCausalLM, LlamaConfig(**SMALL, vocab_size=99), {"input_ids": IDS}),
    "t5": (
        T5ForConditionalGeneration,
        T5Config(d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4, vocab_size=99),
        {"input_ids": IDS, "decoder_input_ids": IDS},
    ),
    "vit": (
        ViTForImageClassification, ViTConfig(**SMALL, image_size=32, patch_size=8),
        {"pixel_values": torch.ones(2, 3, 32, 32)},
    ),
    "whisper": (
        WhisperForConditionalGeneration,
        WhisperConfig(
            d_model=64, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=128, decoder_ffn_dim=128, vocab_size=99, num_mel_bins=8, max_source_positions=20,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        ),
        {"input_features": torch.ones(2, 8, 40), "decoder_input_ids": IDS},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_logits_and_gradients_stay(name):
    kind, config, inputs = MODELS[name]
    model = kind(copy.deepcopy(config)).eval()
    state, implementation = list(model.state_dict()), model.config._attn_implementation
    before = model(**inputs).logits
    learned = [one for one in model.parameters() if one.requires_grad]
    wanted = torch.autograd.grad(before.pow(2).mean(), learned, allow_unused=True)
    acceleration = accelerate(model)
    assert acceleration.linear and not acceleration.left
    assert model.config._attn_implementation == "sightline"
    after = model(**inputs).logits
    found = torch.autograd.grad(after.pow(2).mean(), learned, allow_unused=True)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
    for ours, theirs in zip(found, wanted, strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-4)
    assert list(model.state_dict()) == state
    acceleration.undo()
    assert model.config._attn_implementation == implementation
    assert all(type(one).__module__.startswith(("torch.", "transformers.")) for one in model.modules())
    assert torch.equal(model(**inputs).logits, before)


def test_conv1d_in_every_way():
    model = GPT2LMHeadModel(copy.deepcopy(MODELS["gpt2"][1])).eval()
    before = model(IDS).logits
    with sightline.accelerate(model):
        assert type(model.transformer.h[0].mlp.c_fc) is LinearConv1D
        for way in ("pytorch", "onednn"):
            with sightline.product(way):
                torch.testing.assert_close(model(IDS).logits, before, rtol=1e-4, atol=1e-5)


def test_attentions_of_an_accelerated_model_are_matrices():
    model = BertForSequenceClassification(copy.deepcopy(MODELS["bert"][1])).eval()
    dense = BertForSequenceClassification._from_config(model.config, attn_implementation="eager").eval()
    dense.load_state_dict(model.state_dict())
    accelerate(model)
    found = model(IDS, output_attentions=True).attentions
    assert isinstance(found[0], sightline.AttentionMatrix)
    for one, other in zip(found, dense(IDS, output_attentions=True).attentions, strict=True):
        torch.testing.assert_close(one.dense(), other, rtol=1e-3, atol=1e-5)


def test_a_model_inside_of_another_module():
    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = (
                BertForSequenceClassification(copy.deepcopy(MODELS["bert"][1])),
                torch.nn.Linear(2, 2),
            )

    wrapper = Wrapper()
    acceleration = sightline.accelerate(wrapper)
    assert "head" in acceleration.linear and acceleration.attention[0] == "inner"
    assert wrapper.inner.config._attn_implementation == "sightline"
    acceleration.undo()
    assert wrapper.inner.config._attn_implementation != "sightline"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
def test_a_trace_changes_nothing(name, dtype):
    """Neither the output, to the last bit, nor the way in which layers multiply."""
    kind, config, inputs = MODELS[name]
    model = kind(copy.deepcopy(config)).to(dtype).eval()
    accelerate(model)
    way = "pytorch" if dtype == torch.float32 else "float32"
    with torch.no_grad(), sightline.product(way):
        before = model(**inputs).logits
        with sightline.trace(model) as trace:
            after = model(**inputs).logits
    assert torch.equal(before, after)
    assert len(trace) and all(call.verified for call in trace)

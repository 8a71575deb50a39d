"""Models under "sightline" give what they give under "eager": outputs, attentions, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from tiny_models import (
    DECODERS,
    ENCODERS,
    REQUIRED,
    SEQ2SEQS,
    arguments,
    assert_equal,
    padding,
    pair,
    tokens,
)
from torch import Tensor

import sightline
from sightline.huggingface import fallback

ALL = ENCODERS | DECODERS | SEQ2SEQS
B, N = 3, 13
USED = (13, 7, 4)


def first_output(output: Any) -> Tensor:
    tensor = output[0] if not hasattr(output, "logits") else output.logits
    assert isinstance(tensor, Tensor)
    return tensor


@pytest.mark.parametrize("name", ALL)
def test_output_equals_eager_without_padding(name: str) -> None:
    ours, eager = pair(ALL[name])
    inputs = arguments(name, tokens(B, N), None)
    with torch.no_grad():
        assert_equal(first_output(ours(**inputs)), first_output(eager(**inputs)))


@pytest.mark.parametrize("side", ["left", "right", "holes"])
@pytest.mark.parametrize("name", ALL)
def test_output_equals_eager_at_real_tokens(name: str, side: str) -> None:
    ours, eager = pair(ALL[name])
    mask = padding(side, N, USED)
    inputs = arguments(name, tokens(B, N), mask)
    with torch.no_grad():
        actual, expected = first_output(ours(**inputs)), first_output(eager(**inputs))
    # Rows of padding may differ: eager looks at all keys evenly where there is nothing to look at.
    real = torch.ones(actual.shape[:2], dtype=torch.bool) if name in SEQ2SEQS else mask.bool()
    assert_equal(actual[real], expected[real])
    assert not actual.isnan().any()


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", REQUIRED)
def test_padding_does_not_change_a_text(name: str, side: str) -> None:
    """The trap of the missing mask function: padding that is looked at changes the text's own rows."""
    ours, _ = pair(ALL[name])
    text = tokens(1, 6)
    padded = torch.cat((text, tokens(1, 5)), 1) if side == "right" else torch.cat((tokens(1, 5), text), 1)
    mask = padding(side, 11, (6,))
    alone, together = arguments(name, text, None), arguments(name, padded, mask)
    if name in DECODERS:
        together["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    if name in ENCODERS and side == "left":
        together["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        expected, actual = first_output(ours(**alone)), first_output(ours(**together))
    if name not in SEQ2SEQS:
        actual = actual[mask.bool()][None]
    assert_equal(actual, expected)


@pytest.mark.parametrize("name", ALL)
def test_attentions_are_lazy_and_equal_eager(name: str) -> None:
    ours, eager = pair(ALL[name])
    mask = padding("right", N, USED)
    inputs = arguments(name, tokens(B, N), mask) | {"output_attentions": True}
    with torch.no_grad():
        actual, expected = ours(**inputs), eager(**inputs)
    kinds = [kind for kind in expected if "attentions" in kind and expected[kind]]
    assert kinds
    for kind in kinds:
        assert len(actual[kind]) == len(expected[kind]) == 2
        for matrix, weights in zip(actual[kind], expected[kind], strict=True):
            assert isinstance(matrix, sightline.AttentionMatrix)
            assert tuple(matrix.shape) == tuple(weights.shape)
            rows = weights.shape[2]
            real = mask.bool()[:, None, :, None] if rows == N else torch.ones(B, 1, rows, 1, dtype=torch.bool)
            assert_equal(matrix.dense() * real, weights * real)


@pytest.mark.parametrize("name", REQUIRED)
def test_no_matrix_unless_asked(name: str) -> None:
    ours, _ = pair(ALL[name])
    returned = []
    for module in ours.modules():
        if type(module).__name__.endswith(("SelfAttention", "Attention")):
            module.register_forward_hook(lambda _module, _args, output: returned.append(output[-1]))
    ours(**arguments(name, tokens(B, N), None))
    assert returned
    assert not any(isinstance(weights, sightline.AttentionMatrix) for weights in returned)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", REQUIRED)
def test_gradients_equal_eager(name: str, checkpointing: bool) -> None:
    gradients = []
    for model in pair(ALL[name], attention_dropout=0.0):
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.train()
        for module in model.modules():
            if isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        mask = padding("right", N, USED)
        inputs = arguments(name, tokens(B, N), mask) | {"use_cache": False}
        output = first_output(model(**inputs))
        real = mask[..., None] if output.shape[1] == N else 1
        (output * real).square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    ours, eager = gradients
    assert ours.keys() == eager.keys()
    assert len(ours) > 10
    for parameter, expected in eager.items():
        assert_equal(ours[parameter], expected, tolerance=2e-5)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt_oss", "bert"])
def test_bfloat16(name: str) -> None:
    ours, eager = pair(ALL[name])
    inputs = arguments(name, tokens(B, N), padding("right", N, USED))
    real = padding("right", N, USED).bool()
    with torch.no_grad():
        exact = first_output(eager(**inputs))[real]
        actual = first_output(ours.bfloat16()(**inputs))[real]
        expected = first_output(eager.bfloat16()(**inputs))[real]
    assert actual.dtype == torch.bfloat16
    # No farther from the float32 model than eager is in bfloat16, up to rounding.
    assert (actual - exact).abs().mean() <= 1.5 * (expected - exact).abs().mean() + 1e-3


@pytest.mark.parametrize("name", DECODERS)
def test_packed_sequences_stay_apart(name: str) -> None:
    ours, eager = pair(DECODERS[name])
    ids = tokens(1, N)
    positions = torch.cat([torch.arange(length) for length in (6, 4, 3)])[None]
    with torch.no_grad():
        packed = ours(ids, position_ids=positions, use_cache=False).logits
        assert_equal(packed, eager(ids, position_ids=positions, use_cache=False).logits)
        alone = ours(ids[:, 6:10], use_cache=False).logits
    if name != "gpt_oss":  # whose masks do not know about positions, not even under eager
        assert_equal(packed[:, 6:10], alone)


@pytest.mark.parametrize("kind", ["bool", "float", "heads"])
@pytest.mark.parametrize("name", REQUIRED)
def test_own_four_dimensional_masks(name: str, kind: str) -> None:
    """A user's 4-D mask goes through untouched: bool says who may look, float is added to the scores."""
    ours, eager = pair(ALL[name])
    seen = torch.rand(B, 4 if kind == "heads" else 1, N, N) > 0.4
    seen |= torch.eye(N, dtype=torch.bool)
    added = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    given = added if kind == "float" else seen
    with torch.no_grad():
        if name == "t5":  # the whole model would give the encoder's square mask to its cross-attention
            ours, eager = ours.encoder, eager.encoder
        expected = first_output(eager(tokens(B, N), attention_mask=added))
        actual = first_output(ours(tokens(B, N), attention_mask=given))
    assert_equal(actual, expected)


def test_whisper() -> None:
    from tiny_models import SEQ2SEQ

    config_arguments = SEQ2SEQ | {"num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 24}
    config_arguments.pop("max_position_embeddings")
    ours, eager = pair(
        lambda: (
            hf.WhisperForConditionalGeneration,
            hf.WhisperConfig(**config_arguments, suppress_tokens=None),
        )
    )
    sound = torch.randn(2, 8, 32)
    inputs = {"input_features": sound, "decoder_input_ids": tokens(2, 5), "output_attentions": True}
    with torch.no_grad():
        actual, expected = ours(**inputs), eager(**inputs)
    assert_equal(actual.logits, expected.logits)
    for kind in ("encoder_attentions", "decoder_attentions", "cross_attentions"):
        for matrix, weights in zip(actual[kind], expected[kind], strict=True):
            assert_equal(matrix.dense(), weights)


OWN_CODE: dict[str, Any] = {
    "bloom": lambda: (
        hf.BloomForCausalLM,
        hf.BloomConfig(vocab_size=61, hidden_size=32, n_layer=2, n_head=4, pad_token_id=0),
    ),
    "falcon": lambda: (
        hf.FalconForCausalLM,
        hf.FalconConfig(vocab_size=61, hidden_size=32, num_hidden_layers=2, num_attention_heads=4),
    ),
    "gptj": lambda: (
        hf.GPTJForCausalLM,
        hf.GPTJConfig(vocab_size=61, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, n_positions=64),
    ),
}


@pytest.mark.parametrize("name", OWN_CODE)
def test_a_model_that_computes_attention_itself_runs_as_eager(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take attn_implementation= without complaint, or fail with a KeyError; bool masks would break them."""
    warnings: list[str] = []
    monkeypatch.setattr(fallback.logger, "warning", warnings.append)
    ours, eager = pair(OWN_CODE[name])
    mask = padding("left", N, USED)
    inputs = {"attention_mask": mask, "output_attentions": True}
    with torch.no_grad():
        actual, expected = ours(tokens(B, N), **inputs), eager(tokens(B, N), **inputs)
    assert torch.equal(actual.logits[mask.bool()], expected.logits[mask.bool()])
    for weights, theirs in zip(actual.attentions, expected.attentions, strict=True):
        assert torch.equal(weights, theirs)
    assert len(warnings) == 1
    assert f"{type(ours).__name__} computes attention in its own code" in warnings[0]


def test_a_part_that_was_written_for_float_masks() -> None:
    """Gemma 4's encoder of sound computes attention in its own code, its text model does not."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "output_proj_dims": 16}
    ours, eager = pair(
        lambda: (
            hf.Gemma4AudioModel,
            hf.Gemma4AudioConfig(**sizes, subsampling_conv_channels=[8, 4]),
        )
    )
    heard, mask = torch.randn(2, 80, 8), torch.ones(2, 80, dtype=torch.bool)
    with torch.no_grad():
        assert_equal(ours(heard, mask)[0], eager(heard, mask)[0])

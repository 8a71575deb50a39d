"""The parts of a score add up to it, in every model that is known, and nothing of the model is changed."""

from __future__ import annotations

import json
import math

import pytest
import torch

import sightline
from attribution.running import lively, tokens, traced
from sightline.attribution import asked, sums
from sightline.models import (
    Decoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    EncoderDecoder,
    EncoderDecoderConfig,
    SpeechEncoder,
    SpeechEncoderConfig,
    VisionEncoder,
    VisionEncoderConfig,
    from_huggingface,
)
from sightline.nn import Rotary, TransformerDecoder, TransformerEncoder

SMALL = {"width": 32, "heads": 4, "layers": 3}
TEXT = {**SMALL, "vocabulary": 50}
PICTURE = {**SMALL, "image_size": 16, "patch_size": 4, "channels": 1}


def image():
    return torch.randn(2, 1, 16, 16)


def frames():
    return torch.randn(2, 40, 8)


#: What is built, and what it is given.
MODELS = {
    "decoder": (lambda: Decoder(DecoderConfig(**TEXT)), lambda: ((tokens(),), {})),
    "decoder, post-norm": (lambda: Decoder(DecoderConfig(**TEXT, norm_first=False)), lambda: ((tokens(),), {})),
    "decoder, rotary, grouped, rms": (
        lambda: Decoder(DecoderConfig(**TEXT, positions="rotary", kv_heads=2, norm="rms", bias=False, activation="swiglu")),
        lambda: ((tokens(),), {}),
    ),
    "decoder, rotary, post-norm, one head of keys": (
        lambda: Decoder(DecoderConfig(**TEXT, positions="rotary", kv_heads=1, norm_first=False)),
        lambda: ((tokens(),), {}),
    ),
    "decoder, alibi": (lambda: Decoder(DecoderConfig(**TEXT, positions="alibi", window=5)), lambda: ((tokens(),), {})),
    "decoder, relative": (lambda: Decoder(DecoderConfig(**TEXT, positions="relative")), lambda: ((tokens(),), {})),
    "decoder, sinusoidal": (
        lambda: Decoder(DecoderConfig(**TEXT, positions="sinusoidal", embedding_scale=True)), lambda: ((tokens(),), {}),
    ),
    "encoder, segments, embedding norm": (
        lambda: Encoder(EncoderConfig(**TEXT, segments=2, embedding_norm=True, norm_first=False, embedding_scale=True)),
        lambda: ((tokens(),), {"lengths": [9, 5], "segments": torch.randint(2, (2, 9))}),
    ),
    "encoder, no positions": (
        lambda: Encoder(EncoderConfig(**TEXT, segments=2, positions="none")), lambda: ((tokens(),), {"lengths": [9, 5]}),
    ),
    "encoder-decoder": (
        lambda: EncoderDecoder(EncoderDecoderConfig(**TEXT, decoder_layers=2)),
        lambda: ((tokens(), tokens(2, 5)), {"source_lengths": [9, 5]}),
    ),
    "encoder-decoder, post-norm": (
        lambda: EncoderDecoder(EncoderDecoderConfig(**TEXT, norm_first=False, embedding_norm=True)),
        lambda: ((tokens(), tokens(2, 5)), {"source_lengths": [9, 5]}),
    ),
    "vision": (lambda: VisionEncoder(VisionEncoderConfig(**PICTURE, stem=1)), lambda: ((image(),), {})),
    "vision, rotary": (lambda: VisionEncoder(VisionEncoderConfig(**PICTURE, positions="rotary")), lambda: ((image(),), {})),
    "speech": (
        lambda: SpeechEncoder(SpeechEncoderConfig(**SMALL, features=8, positions="sinusoidal", convolution=3)),
        lambda: ((frames(),), {"lengths": [40, 22]}),
    ),
    "speech, post-norm": (
        lambda: SpeechEncoder(SpeechEncoderConfig(**SMALL, features=8, norm_first=False, convolution=3)),
        lambda: ((frames(),), {}),
    ),
    "stack": (
        lambda: TransformerEncoder(2, 32, 4, rotary=Rotary(8, interleaved=True, scaling=2.0), norm_first=False), lambda: ((torch.randn(2, 7, 32),), {}),
    ),
    "stack with a memory": (
        lambda: TransformerDecoder(2, 32, 4, cross_attention=True, memory_width=16),
        lambda: ((torch.randn(2, 5, 32), torch.randn(2, 7, 16)), {}),
    ),
}  # fmt: skip


def check(trace, tolerance=1e-5):
    """Every head of every call, at some pairs: the sum is the score that the matrix itself has."""
    assert len(trace)
    for place, call in enumerate(trace):
        assert call.verified
        batch, heads, queries, keys = call.matrix.shape
        for head in range(heads):
            query, key = (5 * head + 3) % queries, (3 * head + 1) % keys
            entry = head % batch
            scores = call.matrix.scores(stage="scaled").double()[entry, head]
            scale = scores.abs().max().item()
            why = trace.why(place, head, query, key, batch=entry)
            assert why.table.dtype == torch.float64
            assert abs(why.table.sum().item() - scores[query, key].item()) < tolerance * scale
            assert abs(why.score - scores[query, key].item()) < tolerance * scale
            assert why.remainder == pytest.approx(why.score - why.table.sum().item(), abs=1e-12)
            assert len(why.query_parts) == len(set(why.query_parts)) == why.table.shape[0]
            assert len(why.key_parts) == len(set(why.key_parts)) == why.table.shape[1]
            json.dumps(why.to_dict())


@pytest.mark.parametrize("name", MODELS)
def test_parts_add_up(name):
    build, given = MODELS[name]
    model = lively(build())
    args, options = given()
    check(traced(model, *args, **options))


TINY = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
}
PAIR = {"vocab_size": 61, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
        "encoder_ffn_dim": 40, "decoder_ffn_dim": 40, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 1, "forced_eos_token_id": None, "scale_embedding": True}  # fmt: skip


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart", "marian", "vit"])
def test_parts_add_up_in_published_families(family):
    hf = pytest.importorskip("transformers")
    theirs = {
        "bert": lambda: hf.BertForMaskedLM(hf.BertConfig(**TINY)),
        "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2)),
        "bart": lambda: hf.BartForConditionalGeneration(hf.BartConfig(**PAIR)),
        "marian": lambda: hf.MarianMTModel(hf.MarianConfig(**PAIR, activation_function="swish")),
        "vit": lambda: hf.ViTModel(hf.ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40, image_size=16, patch_size=4)),
    }[family]()  # fmt: skip
    model = lively(from_huggingface(theirs))
    given = {
        "vit": (torch.randn(2, 3, 16, 16),),
        "bart": (tokens(), tokens(2, 5)),
        "marian": (tokens(), tokens(2, 5)),
    }
    check(traced(model, *given.get(family, (tokens(),))))


def test_generation_adds_up():
    for positions in ("learned", "rotary"):
        model = lively(Decoder(DecoderConfig(**TEXT, positions=positions)))
        with torch.no_grad(), sightline.trace(model, residual=True) as trace:
            model.generate(tokens(), new_tokens=5)
        assert trace[0].matrix.shape[2] == 13
        check(trace)
    model = lively(EncoderDecoder(EncoderDecoderConfig(**TEXT, start=1)))
    with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        model.generate(tokens(), source_lengths=[9, 5], new_tokens=4)
    assert trace[-1].matrix.shape[2:] == (4, 9)
    check(trace)


def test_a_trace_opened_on_a_filled_cache_knows_its_own_keys_only():
    model = lively(Decoder(DecoderConfig(**TEXT, positions="rotary")))
    ids, cache = tokens(1, 9), model.make_cache()
    with torch.no_grad():
        model(ids[:, :4], cache=cache)
        with sightline.trace(model, residual=True) as trace:
            model(ids[:, 4:], cache=cache)
    assert trace[2].matrix.shape[2:] == (5, 9)
    why = trace.why(2, 1, 4, 6)
    assert abs(why.remainder) < 4e-6  # of float32 scores of about 5
    assert why.score == pytest.approx(traced(model, ids).why(2, 1, 8, 6).score, abs=1e-5)
    with pytest.raises(ValueError, match="key: 2 lay in the cache before this block"):
        trace.why(2, 1, 4, 2)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.bfloat16, 5e-2)])
def test_other_dtypes(dtype, tolerance):
    model = lively(Decoder(DecoderConfig(**TEXT))).to(dtype)
    check(traced(model, tokens()), tolerance)


def test_the_model_runs_as_before():
    model = lively(Decoder(DecoderConfig(**TEXT)))
    ids = tokens()
    before = model(ids)
    with sightline.trace(model, residual=True) as trace:
        output = model(ids)
    assert output.equal(before)
    assert not any(module._forward_hooks for module in model.modules())
    output.sum().backward()
    check(trace)
    with torch.inference_mode(), sightline.trace(model, residual=True) as trace:
        assert model(ids).equal(before)
    check(trace)


@pytest.mark.parametrize(
    "options, tolerance", [({"offload": "disk"}, 1e-5), ({"dtype": torch.bfloat16}, 5e-2)]
)
def test_however_the_calls_are_kept(options, tolerance):
    model = lively(Decoder(DecoderConfig(**TEXT)))
    with torch.no_grad(), sightline.trace(model, residual=True, **options) as trace:
        model(tokens())
    check(trace, tolerance)


def test_models_inside_of_others_and_chosen_layers():
    inner = lively(Decoder(DecoderConfig(**TEXT)))
    outer = torch.nn.ModuleDict({"left": inner, "right": lively(Encoder(EncoderConfig(**TEXT)))})
    with torch.no_grad(), sightline.trace(outer, layers="left.decoder.blocks.2", residual=True) as trace:
        inner(tokens())
    why = trace.why("left.decoder.blocks.2", 3, 7, 2)
    assert why.name == "left.decoder.blocks.2.self_attention"
    assert "layer 1 head 3" in why.key_parts
    assert abs(why.remainder) < 4e-6


def test_means_are_those_of_the_pairs(monkeypatch):
    model = lively(Decoder(DecoderConfig(**TEXT, positions="rotary", kv_heads=2)))
    monkeypatch.setattr(asked, "_TOGETHER", 32)
    monkeypatch.setattr(sums, "_TOGETHER", 24)
    trace = traced(model, tokens(2, 70))
    for contrast in (False, True):
        mean = trace.why(2, 1, contrast=contrast)
        pairs = [trace.why(2, 1, query, batch=b, contrast=contrast) for b in range(2) for query in range(70)]
        assert mean.pairs == 140
        torch.testing.assert_close(mean.table, torch.stack([each.table for each in pairs]).mean(0))
        assert mean.score == pytest.approx(sum(each.score for each in pairs) / 140)
        magnitudes = torch.stack([each.of_key.abs() for each in pairs]).mean(0)
        torch.testing.assert_close(mean.absolute_of_key, magnitudes)
        magnitudes = torch.stack([each.of_query.abs() for each in pairs]).mean(0)
        torch.testing.assert_close(mean.absolute_of_query, magnitudes)
        json.dumps(mean.to_dict())


def test_means_add_up_over_a_corpus_and_leave_padding_out():
    model = lively(Encoder(EncoderConfig(**TEXT)))
    ids, lengths = tokens(), torch.tensor([9, 5])
    own = torch.arange(9) < lengths[:, None]
    whole = traced(model, ids, lengths=lengths).why(1, 2, queries=own)
    apart = [traced(model, ids[b : b + 1, : lengths[b]]).why(1, 2) for b in range(2)]
    both = sum(apart[1:], apart[0])
    assert (whole.pairs, both.pairs) == (14, 14)
    torch.testing.assert_close(whole.table, both.table, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(whole.absolute_of_key, both.absolute_of_key, atol=1e-6, rtol=1e-5)
    assert whole.score == pytest.approx(both.score, abs=1e-6)
    one = traced(model, ids, lengths=lengths).why(1, 2, queries=own, batch=1)
    torch.testing.assert_close(one.table, apart[1].table, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("mask", ["none", "window", "documents", "prefix", "dense"])
def test_contrast_sees_what_the_mask_shows(mask):
    model, ids = lively(Encoder(EncoderConfig(**TEXT))), tokens()
    random = torch.rand(9, 9, generator=torch.Generator().manual_seed(3)) < 0.6
    masks = {
        "window": sightline.window(2, 1), "documents": sightline.documents(torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2])),
        "prefix": sightline.prefix(2) | sightline.window(1, 0), "dense": sightline.dense(random | torch.eye(9).bool()),
    }  # fmt: skip
    trace = traced(model, ids, mask=masks.get(mask))
    scores, masked = (trace[1].matrix.scores(stage=stage)[1, 2].double() for stage in ("scaled", "masked"))
    for query in range(9):
        seen = masked[query] > -math.inf
        why = trace.why(1, 2, query, batch=1, contrast=True)
        want = scores[query, why.key] - scores[query, seen].mean()
        assert why.score == pytest.approx(want.item(), abs=1e-5)
        assert why.table.sum().item() == pytest.approx(want.item(), abs=1e-5)


def test_contrast_is_the_score_above_that_of_visible_keys():
    model = lively(Decoder(DecoderConfig(**TEXT)))
    trace = traced(model, tokens())
    scores = trace[2].matrix.scores(stage="scaled")[1, 3].double()
    why = trace.why(2, 3, 6, 2, batch=1, contrast=True)
    assert why.score == pytest.approx((scores[6, 2] - scores[6, :7].mean()).item(), abs=1e-5)
    assert abs(why.remainder) < 1e-5
    constant = why.key_parts.index("projection bias")  # the same for all keys: it moves no weight
    assert why.of_key[constant].abs() < 1e-12
    assert trace.why(2, 3, 6, 2, batch=1).of_key[constant].abs() > 1e-3


def test_what_distance_adds_is_a_term_of_its_own():
    trace = traced(lively(Decoder(DecoderConfig(**TEXT, positions="alibi"))), tokens())
    why = trace.why(1, 2, 8, 3)
    assert why.bias == pytest.approx(-5 * 2.0**-6)
    row = trace[1].matrix.scores(8, stage="biased")[0, 2, 0]
    assert why.score + why.bias == pytest.approx(row[3].item(), abs=1e-5)
    assert why.weight == pytest.approx(row.softmax(-1)[3].item(), abs=1e-6)
    assert f"and {why.bias:+.3f} by distance" in repr(why)
    hidden = trace.why(1, 2, 3, 8)
    assert hidden.weight == 0
    assert math.isfinite(hidden.score)

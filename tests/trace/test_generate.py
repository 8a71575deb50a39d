"""Generation with a cache: the steps of a layer become one matrix, equal to that of one pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import StaticCache

import sightline
from huggingface.tiny_models import DECODERS, SEQ2SEQS, padding, tokens

from .families import make

NAMES = ["gpt2", "llama", "mistral", "gemma2", "gpt_oss", "t5", "bart"]
NEW = 7


def generated(model: Any, ids: Tensor, **options: Any) -> Tensor:
    result: Tensor = model.generate(ids, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, **options)
    return result


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("name", NAMES)
def test_steps_are_stitched(name: str, cache: str) -> None:
    model, ids = make(name, "eager"), tokens(2, 6)
    before = generated(model, ids, cache_implementation=cache)
    with sightline.trace(model) as trace:
        after = generated(model, ids, cache_implementation=cache)
    assert torch.equal(before, after)
    inputs = {"input_ids": ids, "decoder_input_ids": after} if name in SEQ2SEQS else {"input_ids": after}
    with torch.no_grad(), sightline.trace(model) as whole:
        model(**inputs)
    assert [(c.name, c.kind) for c in trace] == [(c.name, c.kind) for c in whole]
    assert trace.unverified == []
    for steps, one in zip(trace, whole, strict=True):
        mine, full = steps.matrix.dense(), one.matrix.dense()
        queries, keys = mine.shape[2], min(mine.shape[3], full.shape[3])
        assert queries >= full.shape[2] - 1  # the last token was written, but not read again
        torch.testing.assert_close(mine[..., :keys], full[:, :, :queries, :keys], atol=1e-5, rtol=1e-4)
        assert not mine[..., keys:].any()


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_left_padding(name: str) -> None:
    model, ids, mask = make(name, "sdpa"), tokens(2, 6), padding("left", 6, (6, 4))
    with sightline.trace(model) as trace:
        generated(model, ids, attention_mask=mask)
    assert [tuple(call.shape) for call in trace] == [(2, 4, 6 + NEW - 1, 6 + NEW - 1)] * 2
    assert trace.unverified == []
    assert not trace[0].matrix.dense()[1, :, :, :2].any()


def test_without_stitching_each_step_is_a_call() -> None:
    model = make("llama", "eager")
    with sightline.trace(model, stitch=False) as trace:
        generated(model, tokens(1, 4))
    assert [tuple(call.shape[2:]) for call in trace][::2] == [(4, 4), *((1, 4 + i) for i in range(1, NEW))]
    assert trace.unverified == []


def test_separate_passes_are_separate_calls() -> None:
    for name in ("llama", "bart"):
        model = make(name, "eager")
        with torch.no_grad(), sightline.trace(model) as trace:
            for _ in range(2):
                model(input_ids=tokens(1, 5))
        assert len(trace) == (4 if name == "llama" else 12)


def test_memory_stays_linear_in_the_steps() -> None:
    """The keys of a step hold those of the steps before, which are let go."""
    model = make("llama", "sdpa")
    with sightline.trace(model) as trace:
        generated(model, tokens(1, 30))
    problem = trace[0].matrix.problem
    assert problem.key.shape[2] == 30 + NEW - 1
    assert problem.key.untyped_storage().nbytes() <= 2 * problem.key.numel() * 4


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_static_cache_that_is_written_on_leaves_the_matrix_alone(mode: type) -> None:
    model = make("llama", "sdpa")
    past = StaticCache(config=model.config, max_cache_len=16)
    with mode():
        with sightline.trace(model) as trace:
            model(tokens(1, 5), past_key_values=past, use_cache=True)
        before = [call.matrix.dense().clone() for call in trace]
        for step in range(3):
            model(tokens(1, 1, seed=step), past_key_values=past, use_cache=True)
        past.reset()
        assert all(torch.equal(a, call.matrix.dense()) for a, call in zip(before, trace, strict=True))


@pytest.mark.parametrize("offload", [None, "disk"])
def test_continued_in_chunks(offload: str | None) -> None:
    model, past = make("mistral", "sdpa"), None
    ids = tokens(2, 12)
    with torch.no_grad(), sightline.trace(model, offload=offload) as trace:
        for part in ids.split(5, dim=1):
            past = model(part, past_key_values=past, use_cache=True).past_key_values
    with torch.no_grad(), sightline.trace(model) as whole:
        model(ids)
    for steps, one in zip(trace, whole, strict=True):
        torch.testing.assert_close(steps.matrix.dense(), one.matrix.dense(), atol=1e-5, rtol=1e-4)


def test_beams_are_verified_step_by_step() -> None:
    model = make("gpt2", "eager")
    with sightline.trace(model) as trace:
        generated(model, tokens(1, 4), num_beams=3)
    assert trace.unverified == []
    assert sum(call.shape[2] for call in trace) >= 2 * (4 + NEW - 1)


assert set(NAMES) <= set(DECODERS | SEQ2SEQS)

"""Models of Transformers under every implementation, against the same change in their eager softmax."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

import sightline
from huggingface.tiny_models import (
    DECODERS,
    ENCODERS,
    SEQ2SEQS,
    arguments,
    assert_equal,
    padding,
    tokens,
)
from interventions.by_hand import renormalised

BUILDS = ENCODERS | DECODERS | SEQ2SEQS
IMPLEMENTATIONS = ("eager", "sdpa", "sightline")


def build(name: str, implementation: str) -> Any:
    """A tiny random model with scores of order 1."""
    model_class, config = BUILDS[name]()
    torch.manual_seed(0)
    model = model_class._from_config(config, attn_implementation=implementation)
    for parameter_name, parameter in model.named_parameters():
        if "sinks" in parameter_name or "relative_attention_bias" in parameter_name:
            torch.nn.init.normal_(parameter)
        elif parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@contextmanager
def in_softmax(change: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Every softmax over [B,H,N,M] scores is followed by ``change``, which takes its number and the weights."""
    real, count = torch.nn.functional.softmax, 0

    def softmax(scores: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        nonlocal count
        weights = real(scores, *args, **kwargs)
        if scores.dim() != 4:
            return weights
        count += 1
        return change(count - 1, weights)

    torch.nn.functional.softmax = softmax
    try:
        yield
    finally:
        torch.nn.functional.softmax = real


def knocked_out(place: int) -> Callable[[int, Tensor], Tensor]:
    """Heads 1 and 3 of one call do not see keys 2 and 3, nor head 0 anything."""

    def change(number: int, weights: Tensor) -> Tensor:
        if number != place:
            return weights
        factors = torch.ones_like(weights)
        factors[:, [1, 3], :, 2:4] = 0
        factors[:, 0] = 0
        return renormalised(weights, factors)

    return change


def knock_out(change: Any, layer: Any) -> None:
    change.block(layer=layer, head=[1, 3], keys=[2, 3])
    change.ablate(layer=layer, head=0)


def first_tensor(output: Any) -> Tensor:
    return output.logits if hasattr(output, "logits") else output.last_hidden_state


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2", "llama", "mistral", "t5", "bart"])
def test_knockout(name: str, implementation: str) -> None:
    reference, model = build(name, "eager"), build(name, implementation)
    given = arguments(name, tokens(2, 11), padding("right", 11, (11, 8)))
    last = 1
    if name in SEQ2SEQS:
        last = 5  # encoder 0, 1; then self and cross in turn: the cross-attention of the last layer
    with in_softmax(knocked_out(last)):
        expected = first_tensor(reference(**given))
    with sightline.intervene(model) as change:
        knock_out(change, last)
        with sightline.trace(model) as trace:
            output = first_tensor(model(**given))
    seen = slice(None) if name in SEQ2SEQS else given["attention_mask"].bool()
    assert_equal(output[seen], expected[seen], 2e-5)
    assert [call.reason for call in trace] == [None] * len(trace)
    assert trace[last].kind == ("cross" if name in SEQ2SEQS else "self")
    assert trace[last].matrix[:, 1, :, 2:4].max() == 0
    assert trace[last].matrix[:, 0].dense().max() == 0
    towards = torch.randn_like(expected[seen])
    gradients = [
        torch.autograd.grad((one[seen] * towards).sum(), list(m.parameters()), allow_unused=True)
        for one, m in ((expected, reference), (output, model))
    ]
    for (parameter, _), one, two in zip(model.named_parameters(), *gradients, strict=True):
        assert (one is None) == (two is None), parameter
        if one is not None and two is not None:
            assert_equal(two, one, 2e-4 * max(1.0, float(one.abs().max())))


@pytest.mark.parametrize("name", ["gemma2", "gpt_oss"])
@pytest.mark.parametrize("implementation", ["eager", "sightline"])
def test_caps_and_sinks(name: str, implementation: str) -> None:
    """Softcaps and sinks stay what they are; the two ways of computing agree."""
    model, other = build(name, implementation), build(name, "eager")
    given = arguments(name, tokens(2, 11), None)
    outputs = []
    for one in (model, other):
        with torch.no_grad(), sightline.intervene(one) as change:
            change.block(layer=1, head=[1, 3], keys=[2, 3])
            change.scale(layer=0, keys=[1], by=2.0)
            with sightline.trace(one) as trace:
                outputs.append(one(**given).logits)
        assert all(call.verified for call in trace)
        assert trace[1].matrix[:, 1, :, 2:4].max() == 0
    assert_equal(*outputs, 1e-4)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", ["gpt2", "llama", "bart", "t5"])
def test_generation_with_a_cache(name: str, implementation: str) -> None:
    """Positions count in the whole sequence: what is hidden when all is computed is hidden in every step."""
    model = build(name, implementation)
    ids, cross = tokens(1, 7), name in SEQ2SEQS

    def change(one: Any) -> None:
        one.block(layer=2 if cross else 0, head=1, keys=[2])
        one.block(layer=2 if cross else 1, head=2, queries=[8, 9], keys=[0, 1])
        if cross:
            one.block(layer=3, head=0, queries=[3, 8], keys=[4])

    with torch.no_grad(), sightline.intervene(model) as one:
        change(one)
        with sightline.trace(model) as trace:
            steps = model.generate(
                ids, max_new_tokens=12, do_sample=False, output_logits=True, return_dict_in_generate=True,
                eos_token_id=None,
            )  # fmt: skip
    with torch.no_grad(), sightline.intervene(model) as one:
        change(one)
        made = steps.sequences[:, :-1]
        whole = model(input_ids=ids, decoder_input_ids=made) if cross else model(made)
    logits = torch.stack(steps.logits, 1)
    assert_equal(logits, whole.logits[:, -logits.shape[1] :], 1e-4)
    assert [call.reason for call in trace] == [None] * len(trace)
    first, second = (trace[2].matrix,) * 2 if cross else (trace[0].matrix, trace[1].matrix)
    assert first[:, 1, :, 2].max() == 0
    assert second[:, 2, 8:10, :2].max() == 0
    assert second[:, 2, 10:, :2].min() > 0


def test_what_sightline_returns_as_attentions_is_what_was_changed() -> None:
    model = build("bert", "sightline")
    with torch.no_grad(), sightline.intervene(model) as change:
        change.block(layer=1, head=1, keys=[2])
        attentions = model(tokens(1, 9), output_attentions=True).attentions
    assert attentions[1][:, 1, :, 2].max() == 0
    torch.testing.assert_close(attentions[1][0, 1].sum(-1), torch.ones(9))
    assert attentions[0][:, 1, :, 2].min() > 0


def test_under_inference_mode_and_autocast() -> None:
    model = build("bert", "sdpa")
    ids = tokens(2, 9)
    with torch.no_grad(), sightline.intervene(model) as change:
        knock_out(change, 1)
        expected = model(ids).last_hidden_state
    with torch.inference_mode(), sightline.intervene(model) as change:
        knock_out(change, 1)
        found = model(ids).last_hidden_state
    assert_equal(found, expected)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), sightline.intervene(model) as change:
        knock_out(change, 1)
        coarse = model(ids).last_hidden_state
    assert_equal(coarse.float(), expected, 0.2)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_flex_attention(name: str) -> None:
    model, other = build(name, "flex_attention"), build(name, "eager")
    outputs = []
    for one in (model, other):
        with warnings.catch_warnings(), torch.no_grad(), sightline.intervene(one) as change:
            warnings.simplefilter("ignore")  # it runs uncompiled
            knock_out(change, 1)
            outputs.append(first_tensor(one(tokens(2, 9))))
    assert_equal(*outputs, 2e-5)


def test_a_static_cache() -> None:
    """Its keys are as many as there is room for; queries stand where it is filled to."""
    model, outputs = build("llama", "sdpa"), []
    for cache in ("dynamic", "static"):
        with torch.no_grad(), sightline.intervene(model) as change:
            change.block(layer=0, head=1, queries=[7, 9], keys=[2])
            steps = model.generate(
                tokens(1, 7), max_new_tokens=5, do_sample=False, output_logits=True, eos_token_id=None,
                return_dict_in_generate=True, cache_implementation=cache,
            )  # fmt: skip
        outputs.append(torch.stack(steps.logits, 1))
    assert_equal(*outputs, 1e-4)

"""Every family, unchanged, under every attention implementation: nothing changes, every call is verified."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import sightline
import sightline.huggingface
from huggingface.tiny_models import DECODERS, ENCODERS, SEQ2SEQS, arguments, padding, tokens

from .families import FAMILIES, FURTHER, make, supports, weights_of

IMPLEMENTATIONS = ("eager", "sdpa", "sightline")


def first(outputs: Any) -> Tensor:
    found = next(value for value in outputs.values() if isinstance(value, Tensor))
    assert isinstance(found, Tensor)
    return found


def assert_unchanged(before: Any, after: Any) -> None:
    assert before.keys() == after.keys()
    for name, value in before.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, after[name]), name


@pytest.fixture(scope="module")
def reference() -> dict[str, list[tuple[str, Tensor]]]:
    """The weights that eager attention gives, by family."""
    return {}


def expected(name: str, known: dict[str, list[tuple[str, Tensor]]]) -> list[tuple[str, Tensor]]:
    if name not in known:
        with torch.no_grad():
            known[name] = weights_of(make(name, "eager")(**FAMILIES[name].inputs(), output_attentions=True))
    return known[name]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_call_is_caught_and_verified(
    name: str, implementation: str, reference: dict[str, list[tuple[str, Tensor]]]
) -> None:
    if not supports(name, implementation):
        pytest.skip(f"transformers does not run {name} under {implementation}")
    family, model = FAMILIES[name], make(name, implementation)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            before = model(**family.inputs())
            with sightline.trace(model) as trace:
                after = model(**family.inputs())
        assert_unchanged(before, after)
        assert len(trace) == family.calls
        assert trace.unverified == []
        assert trace.notices == []
    assert {call.name for call in trace} <= {module for module, _ in model.named_modules()}
    assert_same_weights(list(trace), expected(name, reference), family.inputs())


def assert_same_weights(calls: list[Any], wanted: list[tuple[str, Tensor]], inputs: dict[str, Any]) -> None:
    """Each call's matrix is one of eager's, each once; rows that see nothing are 0 and not compared."""
    assert len(calls) == len(wanted)
    left = list(wanted)
    for call in calls:
        dense = call.matrix.dense()
        seen = (dense.sum(-1) > 0)[..., None]
        fits = [
            (kind, weights)
            for kind, weights in left
            if kind == call.kind
            and weights.shape == dense.shape
            and bool(((weights - dense).abs() * seen < 2e-5).all())
        ]
        assert fits, f"{call}: not among eager's weights"
        left = [one for one in left if one[1] is not fits[0][1]]
    mask = inputs.get("attention_mask")
    assert mask is None or bool(mask.any())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("name", FURTHER)
def test_further_families(name: str, mode: type) -> None:
    model_class, config_class, settings, inputs, kinds = FURTHER[name]
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**settings)).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    with mode():
        before = model(**inputs)
        with sightline.trace(model) as trace:
            after = model(**inputs)
    assert torch.equal(before[0], after[0])
    assert [call.kind for call in trace] == kinds
    assert trace.unverified == []


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "vit"])
def test_training_goes_on_as_before(name: str) -> None:
    """Gradients are the same numbers, traced or not."""
    gradients = []
    for traced in (False, True):
        model = make(name, "eager")
        with sightline.trace(model if traced else None):
            loss = first(model(**FAMILIES[name].inputs())).square().mean()
        loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert gradients[0]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("name", ["mistral", "gemma2", "gpt_oss", "modernbert"])
def test_masks_are_kept_as_ranges(name: str) -> None:
    model = make(name, "eager")
    with torch.no_grad(), sightline.trace(model) as trace:
        model(**FAMILIES[name].inputs())
    for call in trace:
        assert call.matrix.problem.ranges is not None
        assert call.matrix.problem.visible is None
        assert call.matrix.problem.bias is None


@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
@pytest.mark.parametrize("implementation", ["eager", "sightline"])
def test_repeated_keys_are_kept_once(name: str, implementation: str) -> None:
    model = make(name, implementation)
    with torch.no_grad(), sightline.trace(model) as trace:
        model(**FAMILIES[name].inputs())
    assert [call.matrix.problem.key.shape[1] for call in trace] == [2, 2]
    assert [call.matrix.shape[1] for call in trace] == [4, 4]


@pytest.mark.parametrize("name", ["llama", "bert"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of flex_attention, that it runs uncompiled
def test_flex_attention(name: str, reference: dict[str, list[tuple[str, Tensor]]]) -> None:
    model = make(name, "flex_attention")
    with torch.no_grad(), sightline.trace(model) as trace:
        model(**FAMILIES[name].inputs())
    assert [call.how for call in trace] == ["flex_attention"] * 2
    assert trace.unverified == []
    assert ["FlexAttention ran uncompiled" in notice for notice in trace.notices] == [True]
    assert_same_weights(list(trace), expected(name, reference), FAMILIES[name].inputs())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", [name for name in FAMILIES if name in DECODERS | ENCODERS | SEQ2SEQS])
def test_every_call_is_verified_at_a_prime_length(name: str, implementation: str) -> None:
    """41 tokens, some of them padding: more than the rows that are checked, and no multiple of a block."""
    if not supports(name, implementation):
        pytest.skip(f"transformers does not run {name} under {implementation}")
    model = make(name, implementation)
    mask = padding("left" if name in DECODERS else "right", 41, (41, 29))
    inputs = arguments(name, tokens(2, 41), mask)
    with torch.no_grad():
        before = model(**inputs)
        with sightline.trace(model) as trace:
            after = model(**inputs)
    assert_unchanged(before, after)
    assert len(trace) == FAMILIES[name].calls
    assert max(call.shape[2] for call in trace) == max(call.shape[3] for call in trace) == 41
    assert trace.unverified == [] and trace.notices == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_other_dtypes(name: str, implementation: str, dtype: torch.dtype) -> None:
    model = make(name, implementation).to(dtype)
    with torch.no_grad(), sightline.trace(model) as trace:
        model(**FAMILIES[name].inputs())
    assert len(trace) == 2
    assert trace.unverified == []
    assert trace[0].matrix.dtype == dtype

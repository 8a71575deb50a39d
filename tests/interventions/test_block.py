"""The block: what it restores, and what it refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._C import _len_torch_dispatch_stack

import sightline
from interventions.by_hand import HEADS, WIDTH, Model, inputs, pair


@pytest.fixture
def model() -> Model:
    return pair("sdpa", dtype=torch.float32)[1]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 9, HEADS * WIDTH)


def changed(model: Callable[..., Any] | None, change: Callable[[Any], object], x: Tensor) -> Any:
    """What a model makes of x under a change."""
    with sightline.intervene(model) as changes:
        change(changes)
        return (model or torch.nn.Identity())(x)


def test_it_ends_with_its_block_after_an_error_too(model: Model, x: Tensor) -> None:
    plain = model(x)

    def fail(change: Any) -> None:
        change.block(layer=1, keys=[0])
        assert not torch.allclose(model(x), plain)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        changed(model, fail, x)
    assert torch.equal(model(x), plain)
    assert _len_torch_dispatch_stack() == 0


def test_nothing_asked_for_is_nothing_changed(model: Model, x: Tensor) -> None:
    with sightline.intervene(model):
        within = model(x)
    assert torch.equal(within, model(x))


def test_another_thread_and_another_model_are_left_alone(model: Model, x: Tensor) -> None:
    other, found = pair("sdpa", dtype=torch.float32)[1], []
    plain = model(x)
    with sightline.intervene(model) as change:
        change.block(layer=1, keys=[0])
        thread = threading.Thread(target=lambda: found.append(model(x)))
        thread.start()
        thread.join()
        found.append(other(x))
        assert not torch.equal(model(x), plain)
    assert torch.equal(found[0], plain)
    assert torch.equal(found[1], other(x))


def test_a_function_and_no_model(x: Tensor) -> None:
    def function(x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)

    given = torch.randn(1, 2, 6, 4)
    visible = torch.ones(1, 6, dtype=torch.bool)
    visible[0, 2] = False
    expected = nn.functional.scaled_dot_product_attention(given, given, given, attn_mask=visible)
    for model in (function, None):
        with sightline.intervene(model) as change:
            change.block(keys=2)
            torch.testing.assert_close(function(given), expected)


def test_layers_by_name_and_glob(model: Model, x: Tensor) -> None:
    outputs = []
    for layer in (1, "layers.1", "*.1", [1], lambda name: name.endswith("1")):
        with torch.no_grad(), sightline.intervene(model) as change:
            change.block(layer=layer, head=2, keys=[1])
            outputs.append(model(x))
    assert all(torch.equal(one, outputs[0]) for one in outputs)


WRONG = {
    "layer: the model has no module 'layers.7'": lambda c: c.block(layer="layers.7"),
    "layer: -1 counts from the end": lambda c: c.block(layer=-1),
    "layer: takes names": lambda c: c.block(layer=1.5),
    "head: must be an integer": lambda c: c.block(head=["a"]),
    "keys: an empty list changes nothing": lambda c: c.block(keys=[]),
    "keys: takes an index, a list of indices": lambda c: c.block(keys="2"),
    "keys: takes integer indices": lambda c: c.block(keys=torch.tensor([True, False])),
    "by: must be at least 0|by: must": lambda c: c.scale(by=-1.0),
    "to: a weight is from 0 to 1, got 1.5": lambda c: c.set(keys=[1], to=1.5),
    "to: must be": lambda c: c.set(keys=[1], to=-0.1),
    "how: there is no 'noise'": lambda c: c.ablate(how="noise"),
    "how: must be a tensor": lambda c: c.ablate(how=[1.0]),
    "weights: must be a tensor": lambda c: c.replace(weights="dense"),
    "weights: must be .N,M.": lambda c: c.replace(weights=torch.full((3, 3), -1.0)),
    "stage: there is no 'scores'": lambda c: c.patch(stage="scores", value=0.0),
    "value: must be a tensor": lambda c: c.patch(value=None),
    "value: wants gradients": lambda c: c.patch(value=torch.ones(8, requires_grad=True)),
    "head: 4 is out of range: there are 4": lambda c: c.block(head=4),
    "head: -5 is out of range": lambda c: c.ablate(head=-5),
    "batch: 2 is out of range: there are 2": lambda c: c.block(batch=2, keys=[0]),
    r"weights: shape \[1, 1, 3, 3\] does not fit": lambda c: c.replace(weights=torch.ones(3, 3)),
    "weights: have 3 heads": lambda c: c.replace(weights=torch.ones(3, 9, 9)),
    r"value: shape \[5\] does not broadcast": lambda c: c.patch(value=torch.ones(5)),
    "there is no layer 7; 2 layers": lambda c: c.block(layer=7),
    r"keys: no call had \[20\]": lambda c: c.block(keys=[1, 20]),
    r"queries: no call had \[-10\]": lambda c: c.block(queries=-10),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_what_is_refused(model: Model, x: Tensor, message: str) -> None:
    plain = model(x)
    with pytest.raises((ValueError, TypeError), match=message):
        changed(model, WRONG[message], x)
    assert torch.equal(model(x), plain)


def test_what_never_ran(model: Model) -> None:
    with pytest.raises(ValueError, match="it met no call"):
        changed(None, lambda change: change.block(keys=[0]), torch.ones(3))

    def first_alone(change: Any) -> None:
        change.block(layer="layers.1")
        model.layers[0](torch.randn(1, 5, HEADS * WIDTH))

    with pytest.raises(ValueError, match="no attention ran in 'layers.1'"), sightline.intervene(model) as one:
        first_alone(one)


def test_what_attention_does_not_explain_is_refused() -> None:
    class Strange(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return ((x @ x.mT).softmax(-1) ** 2) @ x

    class QuietAttention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1

    x = torch.randn(1, 2, 6, 4)
    for model in (Strange(), QuietAttention()):
        with pytest.raises(ValueError, match="cannot be changed"):
            changed(model, lambda change: change.block(keys=[0]), x)


def test_transforms_are_refused(x: Tensor) -> None:
    _, model = pair("sdpa")
    given = inputs().detach()

    def differentiated(change: Any) -> None:
        change.block(keys=[0])
        torch.func.grad(lambda x: model(x).sum())(given)

    with pytest.raises(NotImplementedError, match="torch.func"):
        changed(model, differentiated, given)


def test_it_is_used_once_and_knows_its_model() -> None:
    block = sightline.intervene(None)
    with block:
        pass
    with pytest.raises(RuntimeError, match="was used before"), block:
        pass
    with pytest.raises(TypeError, match="model: must be a module"):
        sightline.intervene(3)


def test_a_backward_pass_that_follows_at_once() -> None:
    """Autograd is told of a change when the next operation runs; here none does, in the model or behind it."""
    x = torch.randn(1, 2, 6, 4, requires_grad=True)
    towards = torch.randn(1, 2, 6, 4)
    visible = torch.ones(1, 6, dtype=torch.bool)
    visible[0, 2] = False
    expected = nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=visible)
    with sightline.intervene(None) as change:
        change.block(keys=2)
        context = nn.functional.scaled_dot_product_attention(x, x, x)
        found = torch.autograd.grad(context, x, towards)
    torch.testing.assert_close(found, torch.autograd.grad(expected, x, towards))

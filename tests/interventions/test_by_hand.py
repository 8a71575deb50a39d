"""Every kind of change in a model written by hand, against a recomputation in float64, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import sightline
from interventions.by_hand import HEADS, WAYS, Model, inputs, pair, renormalised


def factors(weights: Tensor, places: tuple[object, ...], by: float = 0.0) -> Tensor:
    """1, and ``by`` at some places [b, h, i, j]."""
    tensor = torch.ones_like(weights)
    tensor[places] = by
    return tensor


ALL = slice(None)
ROWS, KEYS = torch.tensor([2, 3, 4])[:, None], torch.tensor([0, 3])


def blocked(places: tuple[object, ...], by: float = 0.0) -> Callable[[Tensor], Tensor]:
    return lambda weights: renormalised(weights, factors(weights, places, by))


# What is changed in layer 1, and what that means for the dense weights.
CASES = {
    "edges": (
        lambda c: c.block(layer=1, head=1, queries=[2, 3, 4], keys=[0, 3]),
        blocked((ALL, 1, ROWS, KEYS)),
    ),
    "keys": (lambda c: c.block(layer=1, keys=[1, 2, 5]), blocked((ALL, ALL, ALL, [1, 2, 5]))),
    "keys of heads": (
        lambda c: c.block(layer=1, head=[0, -1], keys=slice(2, 5)),
        lambda w: renormalised(w, _of_heads(w, [0, HEADS - 1], slice(2, 5))),
    ),
    "whole rows": (lambda c: c.block(layer=1, queries=range(1, 4)), blocked((ALL, ALL, slice(1, 4)))),
    "scattered keys": (
        lambda c: c.block(layer=1, head=2, keys=range(0, 60, 2)),
        blocked((ALL, 2, ALL, slice(0, 60, 2))),
    ),
    "scattered edges": (
        lambda c: c.block(layer=1, head=2, queries=[1, 5], keys=range(1, 60, 2)),
        blocked((ALL, 2, torch.tensor([1, 5])[:, None], torch.arange(1, 60, 2))),
    ),
    "entries": (lambda c: c.block(layer=1, batch=1, keys=[0]), blocked((1, ALL, ALL, 0))),
    "from the end": (lambda c: c.block(layer=1, queries=-1, keys=-2), blocked((ALL, ALL, -1, -2))),
    "scaled keys": (lambda c: c.scale(layer=1, head=3, keys=[2], by=0.5), blocked((ALL, 3, ALL, 2), 0.5)),
    "scaled edges": (
        lambda c: c.scale(layer=1, head=3, queries=[2, 3, 4], keys=[0, 3], by=7.0),
        blocked((ALL, 3, ROWS, KEYS), 7.0),
    ),
    "scaled to nothing": (lambda c: c.scale(layer=1, keys=[0], by=0), blocked((ALL, ALL, ALL, 0))),
    "given": (
        lambda c: c.set(layer=1, head=2, queries=[4, 5], keys=[3], to=0.7),
        lambda w: _given(w, (ALL, 2, [4, 5]), [3], 0.7),
    ),
    "given to several": (
        lambda c: c.set(layer=1, keys=[1, 4], to=0.25),
        lambda w: _given(w, (ALL, ALL, ALL), [1, 4], 0.25),
    ),
    "given to an entry": (
        lambda c: c.set(layer=1, head=0, queries=5, keys=0, to=0.9, batch=1),
        lambda w: _given(w, (1, 0, [5]), [0], 0.9),
    ),
    "given nothing": (lambda c: c.set(layer=1, head=1, keys=[0], to=0), blocked((ALL, 1, ALL, 0))),
    "given all": (
        lambda c: c.set(layer=1, head=1, queries=[3, 4], keys=[2, 3], to=1),
        lambda w: _given(w, (ALL, 1, [3, 4]), [2, 3], 1.0),
    ),
    "zero": (lambda c: c.ablate(layer=1, head=2), lambda w: w * _head(w, 2)),
    "mean": (
        lambda c: c.ablate(layer=1, head=2, how="mean"),
        lambda w: torch.where(_head(w, 2) == 0, w.mean(2, keepdim=True), w),
    ),
    "uniform": (
        lambda c: c.ablate(layer=1, head=[1, 2], how="uniform"),
        lambda w: torch.where(
            _head(w, 2) * _head(w, 1) == 0, (w > 0).to(w) / (w > 0).sum(-1, keepdim=True), w
        ),
    ),
}  # fmt: skip


def _given(weights: Tensor, rows: tuple[Any, ...], keys: list[int], to: float) -> Tensor:
    """Weights in which these keys together get ``to`` in some rows, and the others the rest."""
    wanted = torch.zeros(weights.shape[:3], dtype=torch.bool)
    wanted[rows] = True
    own = torch.zeros(weights.shape[-1], dtype=torch.bool)
    own[keys] = True
    mine = (weights * own).sum(-1, keepdim=True)
    others = (weights * ~own).sum(-1, keepdim=True)
    moves = wanted[..., None] & (mine > 0) & (others > 0)
    mine, others = (sums.where(moves, 1.0) for sums in (mine, others))
    shared = torch.where(own, weights * to / mine, weights * (1 - to) / others)
    return torch.where(moves, shared, weights)


def _head(weights: Tensor, head: int) -> Tensor:
    ones = torch.ones_like(weights)
    ones[:, head] = 0
    return ones


def _of_heads(weights: Tensor, heads: list[int], keys: slice) -> Tensor:
    ones = torch.ones_like(weights)
    for head in heads:
        ones[:, head, :, keys] = 0
    return ones


def compare(model: Model, reference: Model, x: Tensor, change: Callable[..., None], tolerance: float) -> None:
    """Outputs, gradients, and what a trace sees in the block and around it."""
    expected = reference(x)
    towards = torch.randn_like(expected)
    gradients = torch.autograd.grad((expected * towards).sum(), [x, *reference.parameters()])
    with (
        sightline.trace(model) as around,
        sightline.intervene(model) as changes,
        sightline.trace(model) as within,
    ):
        change(changes)
        output = model(x)
    found = torch.autograd.grad((output * towards).sum(), [x, *model.parameters()])
    torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
    for one, other in zip(found, gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=10 * tolerance, atol=10 * tolerance)
    for trace in (around, within):
        assert [call.name for call in trace] == ["layers.0", "layers.1"]
        assert [call.reason for call in trace] == [None, None]


@pytest.mark.parametrize(
    ("way", "causal"), [*((way, False) for way in WAYS), ("dense", True), ("sightline", True)]
)
@pytest.mark.parametrize("case", CASES)
def test_what_it_computes(case: str, way: str, causal: bool) -> None:
    change, weights = CASES[case]
    reference, model = pair(way, causal)
    x = inputs(60 if "scattered" in case else 9)
    plain = model(x).detach()
    reference.layers[1].weights = weights
    compare(model, reference, x, change, 1e-12)
    torch.testing.assert_close(model(x).detach(), plain, rtol=0, atol=0)  # the model is as it was


@pytest.mark.parametrize("way", WAYS)
def test_the_matrix_that_a_trace_sees(way: str) -> None:
    _, model = pair(way)
    x = inputs()
    with torch.no_grad(), sightline.trace(model) as before:
        model(x)
    for case in ("edges", "scaled edges", "zero", "mean", "uniform"):
        change, weights = CASES[case]
        with torch.no_grad(), sightline.intervene(model) as changes:
            change(changes)
            with sightline.trace(model) as trace:
                model(x)
        expected = weights(before[1].matrix.dense())
        torch.testing.assert_close(trace[1].matrix.dense(), expected, rtol=1e-10, atol=1e-12)
        if case == "edges":
            assert trace[1].matrix[:, 1, 2:5][..., [0, 3]].abs().max() == 0  # exactly
        assert trace[1].verified


@pytest.mark.parametrize("way", WAYS)
def test_float32_is_as_exact(way: str) -> None:
    reference, model = pair(way, True, torch.float32)
    change, weights = CASES["edges"]
    reference.layers[1].weights = weights
    compare(model, reference, inputs(dtype=torch.float32), change, 2e-6)


STAGES = ("query", "key", "value", "context")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("way", WAYS)
def test_patches(way: str, stage: str) -> None:
    reference, model = pair(way, True)
    x = inputs()
    other = torch.randn(2, 1, 2, 8, dtype=torch.float64)

    def patched(name: str, tensor: Tensor) -> Tensor:
        if name != stage:
            return tensor
        tensor = tensor.clone()
        tensor[:, 3:4, [4, 6]] = other
        return tensor

    reference.layers[1].stages = patched
    expected = reference(x)
    gradients = torch.autograd.grad(expected.sin().sum(), [x, *reference.parameters()])
    with sightline.intervene(model) as change:
        change.patch(layer=1, head=3, stage=stage, positions=[4, 6], value=other)
        with sightline.trace(model) as trace:
            output = model(x)
    torch.testing.assert_close(output, expected)
    found = torch.autograd.grad(output.sin().sum(), [x, *model.parameters()])
    for one, other_one in zip(found, gradients, strict=True):
        torch.testing.assert_close(one, other_one)
    assert trace[1].verified == (stage != "context")  # no weights made that context, and the trace says so


@pytest.mark.parametrize("way", WAYS)
def test_the_pattern_of_another_run(way: str) -> None:
    reference, model = pair(way)
    x, y = inputs(), inputs()
    with torch.no_grad(), sightline.trace(model) as trace:
        model(y)
    matrix = trace["layers.1"].matrix
    dense = matrix.dense()

    def weights(own: Tensor) -> Tensor:
        own = own.clone()
        own[:, [0, 2]] = dense[:, [0, 2]]
        return own

    reference.layers[1].weights = weights
    for given in (matrix, dense, dense[:, [0, 2]]):
        compare(model, reference, x, lambda c, g=given: c.replace(layer=1, head=[0, 2], weights=g), 1e-10)


def test_a_given_context() -> None:
    reference, model = pair("sdpa")
    x = inputs()
    given = torch.randn(8, dtype=torch.float64)

    def patched(name: str, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        if name == "context":
            tensor[:, 1] = given
        return tensor

    reference.layers[0].stages = patched
    with sightline.intervene(model) as change:
        change.ablate(layer=0, head=1, how=given)
        output = model(x)
    torch.testing.assert_close(output, reference(x))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_changes_compose_in_order(way: str, nested: bool) -> None:
    reference, model = pair(way)
    x = inputs()
    other = torch.randn(8, dtype=torch.float64)

    def stages(name: str, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        if name == "value":
            tensor[:, 1, 5] = other
        return tensor

    def weights(own: Tensor) -> Tensor:
        own = blocked((ALL, 1, ALL, 2))(own)
        own = blocked((ALL, ALL, ALL, 3), 4.0)(own)
        return own * _head(own, 0)

    reference.layers[0].weights, reference.layers[0].stages = weights, stages
    expected = reference(x)
    gradients = torch.autograd.grad(expected.sum(), [x, *reference.parameters()])
    with sightline.intervene(model) as first:
        first.block(layer=0, head=1, keys=2)
        if nested:
            with sightline.intervene(model) as second:
                _rest(second, other)
                with sightline.trace(model) as trace:
                    output = model(x)
        else:
            _rest(first, other)
            with sightline.trace(model) as trace:
                output = model(x)
    torch.testing.assert_close(output, expected)
    for one, two in zip(torch.autograd.grad(output.sum(), [x, *model.parameters()]), gradients, strict=True):
        torch.testing.assert_close(one, two)
    assert trace[0].verified


def _rest(change: object, other: Tensor) -> None:
    change.scale(layer=0, keys=3, by=4.0)
    change.patch(layer=0, head=1, stage="value", positions=5, value=other)
    change.ablate(layer=0, head=0)


@pytest.mark.parametrize("way", ["dense", "einsum", "sightline"])  # PyTorch's own has none
def test_gradients_of_gradients_and_twice(way: str) -> None:
    reference, model = pair(way)
    x = inputs(5)
    reference.layers[1].weights = blocked((ALL, 1, ALL, [0, 3]))
    with sightline.intervene(model) as change:
        change.block(layer=1, head=1, keys=[0, 3])
        output = model(x)
    found, expected = [], []
    for result, into in ((output, found), (reference(x), expected)):
        (first,) = torch.autograd.grad(result.sin().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.pow(2).sum(), x, retain_graph=True)
        (again,) = torch.autograd.grad(result.sin().sum(), x)
        into.extend((first, second, again))
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two)


def test_dropout_is_kept() -> None:
    x = torch.randn(1, 2, 400, 16)

    class Dropping(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.nn.functional.scaled_dot_product_attention(x, x, torch.ones_like(x), dropout_p=0.5)

    with torch.no_grad(), sightline.intervene(model := Dropping()) as change:
        change.block(head=0, keys=[0])
        context = model(x)
    assert 0.9 < context.mean() < 1.1
    assert context.std() > 0.01  # weights were dropped


def test_heads_whose_keys_are_equal_by_chance_keep_gradients_of_their_own() -> None:
    query, key, value = (torch.randn(1, 4, 6, 8, dtype=torch.float64) for _ in range(3))
    key[:], value[:] = key[:, :1].clone(), value[:, :1].clone()
    leaves = [tensor.requires_grad_() for tensor in (query, key, value)]
    visible = torch.ones(4, 1, 6, dtype=torch.bool)
    visible[2, :, 3] = False
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=visible).sin()
    with sightline.intervene(None) as change:
        change.block(head=2, keys=3)
        found = (torch.softmax(query @ key.mT / 8**0.5, -1) @ value).sin()
    for one, two in zip(
        torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(expected.sum(), leaves), strict=True
    ):
        torch.testing.assert_close(one, two)


def test_memory_is_linear_in_the_sequence() -> None:
    """Nothing of N x M is made by a change of fused attention: not even of bools."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(tensor, Tensor):
                    largest = max(largest, tensor.untyped_storage().nbytes())
            return out

    n = 4096
    x = torch.randn(1, 2, n, 8, requires_grad=True)
    from sightline.interventions.changes import Ablate, Block, Scale
    from sightline.interventions.looking import Looking
    from sightline.lowering import lower
    from sightline.tracing.choice import LayerChoice

    scale = Scale("scale", LayerChoice(None, ()), 1, None, queries=[5, 9], keys=[2, 3])
    scale.by = 2.0
    changes = [
        Block("block", LayerChoice(None, ()), 1, None, queries=range(100, 2000), keys=[7, 90]),
        Block("block", LayerChoice(None, ()), None, None, queries=None, keys=range(0, n, 3)),
        scale,
        Ablate("ablate", LayerChoice(None, ()), 0, None),
    ]
    with Watch():
        looking = Looking.of(lower(x, x, x, mask=sightline.causal()))
        applied = [change.apply(looking, 0) for change in changes]
        looking.context()[0].sum().backward()
    assert all(applied)
    assert largest < 2 * n * 400  # bytes; of bools alone it would be 16 MB

"""Muon, and the optimisers of a run."""

from __future__ import annotations

import copy

import pytest
import torch

from sightline.models import Decoder, DecoderConfig
from sightline.tasks.muon import Muon, orthogonal
from sightline.tasks.optimiser import Optimiser, factor
from sightline.tasks.recipe import Recipe


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6), (1, 5)])
def test_the_factor_has_the_same_vectors_and_values_near_one(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape, dtype=torch.float64)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonal(matrix) @ vh.T
    torch.testing.assert_close(inside - inside.diag().diag(), torch.zeros_like(inside))
    assert 0.6 < float(inside.diag().min()) <= float(inside.diag().max()) < 1.3


def test_the_factor_in_bfloat16():
    """Its rounding is far below the 0.3 by which the values miss 1."""
    torch.manual_seed(0)
    matrix = torch.randn(20, 30)
    found = orthogonal(matrix, torch.bfloat16)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, orthogonal(matrix), atol=0.03, rtol=0)


def test_a_matrix_of_zeros_stays_one():
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_one_step_by_hand():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(3, 5))
    before, gradient = weight.detach().clone(), torch.randn(3, 5)
    weight.grad = gradient.clone()
    Muon([weight], rate=0.1, momentum=0.9, decay=0.5).step()
    expected = 0.95 * before - 0.2 * 0.1 * 5**0.5 * orthogonal(0.1 * gradient + 0.9 * 0.1 * gradient)
    torch.testing.assert_close(weight.detach(), expected)


def test_muon_refuses_what_is_no_matrix():
    with pytest.raises(ValueError, match=r"parameters: expected matrices \[n,m\], got shape \[4\]"):
        Muon([torch.nn.Parameter(torch.zeros(4))], rate=0.1)


def _trained(kind, steps, resumed_after=None):
    torch.manual_seed(0)
    model = Decoder(DecoderConfig(width=16, heads=2, layers=1, vocabulary=20))
    optimiser, recipe = None, Recipe(optimiser=kind, rate=0.01, warmup=2, decay=0.1)
    optimiser = Optimiser(model, recipe)
    ids = torch.randint(20, (4, 9))
    for at in range(steps):
        if at == resumed_after:
            state = {name: tensor.clone() for name, tensor in optimiser.state().items()}
            model = copy.deepcopy(model)
            optimiser = Optimiser(model, recipe)
            optimiser.restore(state)
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimiser.step(at, steps)
    return float(loss.detach()), model


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_run_learns_and_goes_on_exactly(kind):
    loss, model = _trained(kind, 40)
    assert loss < 1.5
    again, resumed = _trained(kind, 40, resumed_after=17)
    assert again == loss
    for one, other in zip(model.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_muon_is_for_matrices_that_multiply():
    model = Decoder(DecoderConfig(width=16, heads=2, layers=1, vocabulary=20))
    adamw, muon = Optimiser(model, Recipe(optimiser="muon")).parts
    by = {id(p): name for name, p in model.named_parameters()}
    changed = {by[id(p)] for group in muon.param_groups for p in group["params"]}
    rest = {by[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert changed | rest == set(by.values())
    assert not changed & rest
    assert "embedding.tokens.weight" in rest
    assert all(name.endswith("weight") for name in changed)


def test_the_rate_rises_and_falls_to_the_floor():
    rates = [factor(step, 10, 110, 0.02) for step in range(111)]
    assert rates[0] == 0.1
    assert max(rates) == 1.0
    assert rates[9] == 1.0
    assert rates[60] == pytest.approx(0.51)
    assert rates[110] == pytest.approx(0.02)

"""Scores of keys from lazy matrices: those of dense weights; influence is what leaving a key out does."""

import math

import pytest
import torch

import sightline
from cases import close
from sightline import reference
from sightline.nn import scores

MASKS = {"none": None, "causal": sightline.causal(), "window": sightline.window(5, 0), "odd": sightline.ranges(
    torch.tensor([0, 3, 2, 7] * 6).view(1, 1, 24), torch.tensor([0, 4, 9, 24] * 6).view(1, 1, 24)
)}  # fmt: skip


def problem(mask, sharp=1.0, heads=4, kv_heads=2, **options):
    query = sharp * torch.randn(2, heads, 24, 8)
    key, value = torch.randn(2, 2, kv_heads, 24, 8)
    _, A = sightline.attention(query, key, value, mask=MASKS[mask], return_matrix=True, **options)
    return A, reference.attention(query, key, value, mask=MASKS[mask], **options)


def mean_of_groups(of_heads, groups=2):
    return of_heads.unflatten(1, (groups, -1)).mean(2)


@pytest.mark.parametrize("mask", MASKS)
def test_received_last_and_window(mask):
    A, stages = problem(mask)
    weights = stages.weights
    close(scores.received(A), mean_of_groups(weights.sum(2)), 1e-5)
    close(scores.received(A, 1), weights.sum(2).mean(1, keepdim=True), 1e-5)
    close(scores.received(A, 4), weights.sum(2), 1e-5)
    close(scores.last(A), mean_of_groups(weights[:, :, -1]), 1e-5)
    found = scores.window(A, 6)
    close(found[:, :, :18], mean_of_groups(weights[:, :, -6:].mean(2))[:, :, :18], 1e-5)
    assert (found[:, :, 18:] == math.inf).all()
    assert (scores.window(A, 100) == math.inf).all()


def left_out(A, stages):
    """Σ over rows of the squared distance that each context moves when a key is hidden as well."""
    p = A.problem
    b, h, n, m = A.shape
    moved = torch.zeros(b, h, m, dtype=torch.float64)
    seen = stages.masked != -math.inf
    for j in range(m):
        without = seen.clone()
        without[..., j] = False
        other = reference.attention(
            p.query, p.key, p.value, mask=sightline.dense(without), sinks=p.sinks, bias=p.bias, scale=p.scale
        )
        moved[:, :, j] = ((other.context - stages.context) ** 2).sum((-1, -2))
    return mean_of_groups(moved)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("sharp", [1.0, 60.0])
def test_influence_is_what_leaving_a_key_out_does(mask, sharp):
    """Sharp rows have weights so close to 1 that the formula alone would divide by 0."""
    A, stages = problem(mask, sharp)
    wanted = left_out(A, stages)
    close(scores.influence(A) / wanted.max(), wanted / wanted.max(), 2e-4 if sharp > 1 else 1e-5)
    assert scores.influence(A).isfinite().all()


def test_influence_with_sinks_and_bias():
    A, stages = problem("causal", sinks=torch.tensor([0.5, -1.0, 2.0, 0.0]), bias=torch.randn(24, 24))
    close(scores.influence(A), left_out(A, stages), 1e-4)


def test_influence_equals_the_formula_where_it_can_be_told():
    A, stages = problem("none")
    value = A.problem.value.double().repeat_interleave(2, 1)
    distance = ((value[:, :, None] - stages.context[:, :, :, None]) ** 2).sum(-1)
    formula = ((stages.weights / (1 - stages.weights)) ** 2 * distance).sum(2)
    close(scores.influence(A, 4), formula, 1e-4)


def test_influence_takes_memory_linear_in_n():
    query, key, value = torch.randn(3, 1, 1, 4096, 8)
    _, A = sightline.attention(query, key, value, mask=sightline.causal(), return_matrix=True)
    largest = max(math.prod(block.masked.shape) for block in A.blocks())
    assert largest < 4096 * 4096 / 4
    assert scores.influence(A).shape == (1, 1, 4096)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_pooled(pool):
    given = torch.rand(2, 3, 11).double()
    given[:, :, 8:] = math.inf
    found = scores.pooled(given, 5, pool)
    assert (found[:, :, 8:] == math.inf).all()
    for j in range(8):
        near = given[:, :, max(0, j - 2) : min(8, j + 3)]
        wanted = near.sum(-1) / 5 if pool == "mean" else near.amax(-1)
        close(found[:, :, j], wanted, 1e-12)
    assert torch.equal(scores.pooled(given, 1, pool), given)


def test_what_is_refused():
    A, _ = problem("causal")
    with pytest.raises(TypeError, match="A: must be an AttentionMatrix, got a tensor"):
        scores.received(torch.rand(1, 2, 3, 3))
    with pytest.raises(ValueError, match=r"A: expected \[B,H,N,M\], got shape \[4, 24, 24\]"):
        scores.last(A[0])
    with pytest.raises(ValueError, match="kv_heads: 3 .axis G. do not divide H=4"):
        scores.received(A, 3)
    with pytest.raises(ValueError, match="size: must be 1 or more, got 0"):
        scores.window(A, 0)
    with pytest.raises(ValueError, match="A: has no values"):
        scores.influence(sightline.AttentionMatrix(*torch.randn(2, 1, 2, 4, 4)))
    with pytest.raises(ValueError, match="kernel: must be odd"):
        scores.pooled(torch.rand(1, 1, 4), 2)
    with pytest.raises(ValueError, match="pool: there is no 'sum'; known: mean, max"):
        scores.pooled(torch.rand(1, 1, 4), 3, "sum")

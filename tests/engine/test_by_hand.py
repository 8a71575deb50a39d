"""Cases small enough to check with a pencil."""

import math

import pytest
import torch

import sightline
from cases import BACKENDS


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_and_context_of_two_keys(backend):
    # Scores 0 and ln 3, so weights 1/4 and 3/4.
    query = torch.tensor([[[[1.0]]]])
    key = torch.tensor([[[[0.0], [math.log(3)]]]])
    value = torch.tensor([[[[4.0, 0.0], [8.0, 4.0]]]])
    with sightline.backend(backend):
        context, A = sightline.attention(query, key, value, scale=1.0, return_matrix=True)
        weights, lse = A.dense(), A.lse
    torch.testing.assert_close(weights[0, 0, 0], torch.tensor([0.25, 0.75]))
    torch.testing.assert_close(context[0, 0, 0], torch.tensor([7.0, 3.0]))
    torch.testing.assert_close(lse[0, 0, 0], torch.tensor(math.log(4)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_default_scale_is_one_over_the_root_of_the_width(backend):
    query, key = (
        torch.full((1, 1, 1, 4), 1.0),
        torch.stack([torch.zeros(4), torch.full((4,), math.log(3) / 2)]),
    )
    with sightline.backend(backend):
        A = sightline.AttentionMatrix(query, key[None, None])
        torch.testing.assert_close(A[0, 0, 0], torch.tensor([0.25, 0.75]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sink_joins_the_denominator_only(backend):
    query, key, value = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 2, 1), torch.ones(1, 1, 2, 1)
    with sightline.backend(backend):
        context, A = sightline.attention(
            query, key, value, sinks=torch.tensor([math.log(2)]), return_matrix=True
        )
        torch.testing.assert_close(A[0, 0, 0], torch.tensor([0.25, 0.25]))
        torch.testing.assert_close(A.lse[0, 0, 0], torch.tensor(math.log(4)))
        torch.testing.assert_close(A.entropy()[0, 0, 0], torch.tensor(0.5 * math.log(4)))
    torch.testing.assert_close(context[0, 0, 0, 0], torch.tensor(0.5))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_row_reads_zero_everywhere(backend):
    query, key, value = torch.randn(3, 1, 1, 2, 4).requires_grad_().unbind(0)
    with sightline.backend(backend):
        context, A = sightline.attention(
            query, key, value, mask=torch.tensor([[False, False], [True, False]]), return_matrix=True
        )
        assert A.lse[0, 0, 0] == -math.inf
        found = A.readouts("entropy", "max", "max_score", "distance", topk=2)
        assert context[0, 0, 0].tolist() == [0] * 4
        assert A[0, 0, 0].tolist() == [0, 0]
        assert found.entropy[0, 0, 0] == 0
        assert found.distance[0, 0, 0] == 0
        assert (found.max.values[0, 0, 0], found.max.indices[0, 0, 0]) == (0, -1)
        assert found.max_score[0, 0, 0] == -math.inf
        assert found.topk.values[0, 0].flatten().tolist() == pytest.approx([0, 0, 1, 0])
        assert found.topk.indices[0, 0].tolist() == [[-1, -1], [0, -1]]
    (gradient,) = torch.autograd.grad(context.sum(), query)
    assert gradient[0, 0, 0].tolist() == [0] * 4
    assert not gradient.isnan().any()


def test_softcap_bounds_the_scores():
    query, key = torch.full((1, 1, 1, 1), 100.0), torch.tensor([[[[1.0], [-1.0], [0.0]]]])
    A = sightline.AttentionMatrix(query, key, scale=1.0, softcap=2.0)
    torch.testing.assert_close(A.scores(stage="scaled")[0, 0, 0], torch.tensor([100.0, -100.0, 0.0]))
    torch.testing.assert_close(A.scores(stage="capped")[0, 0, 0], torch.tensor([2.0, -2.0, 0.0]))


def test_heads_of_a_group_read_the_same_key():
    key = torch.eye(2).reshape(1, 2, 1, 2) * 50
    key = torch.cat((key, -key), dim=2)  # key 0 points along an axis, key 1 against it
    query = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).reshape(1, 4, 1, 2)
    A = sightline.AttentionMatrix(query, key)
    assert A.max().indices.flatten().tolist() == [0, 0, 0, 1]


def test_causal_aligns_to_the_bottom_right():
    q, k = torch.zeros(1, 1, 2, 1), torch.zeros(1, 1, 4, 1)
    seen = sightline.AttentionMatrix(q, k, mask=sightline.causal()).dense()[0, 0] > 0
    assert seen.int().tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    seen = sightline.AttentionMatrix(q, k, mask=sightline.causal("top-left")).dense()[0, 0] > 0
    assert seen.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0]]


def test_offsets_per_batch_entry():
    q, k = torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 4, 1)
    A = sightline.AttentionMatrix(q, k, mask=sightline.causal(torch.tensor([0, 2])))
    assert (A.dense()[:, 0, 0] > 0).int().tolist() == [[1, 0, 0, 0], [1, 1, 1, 0]]


def test_alibi_and_relative_by_hand():
    q, k = torch.zeros(1, 1, 2, 1), torch.zeros(1, 1, 3, 1)
    A = sightline.AttentionMatrix(q, k, bias=sightline.alibi(torch.tensor([2.0])))  # offset 1
    assert A.scores(stage="biased")[0, 0].tolist() == [[-2, 0, -2], [-4, -2, 0]]
    table = torch.tensor([[-1.0, 5.0, 1.0]])
    A = sightline.AttentionMatrix(q, k, bias=sightline.relative(table, align="top-left"))
    assert A.scores(stage="biased")[0, 0].tolist() == [[5, 1, 1], [-1, 5, 1]]


def test_pool_cells_tile_the_region():
    A = sightline.AttentionMatrix(torch.zeros(1, 1, 3, 1), torch.zeros(1, 1, 4, 1), mask=sightline.causal(0))
    # Rows: [1], [1/2 1/2], [1/3 1/3 1/3]; cells: rows 0 | 1-2, columns 0-1 | 2-3.
    third = 1 / 3
    sums = torch.tensor([[1.0, 0.0], [1 + 2 * third, third]])
    torch.testing.assert_close(A.pool(2, 2, reduce="sum")[0, 0], sums)
    means = torch.tensor([[1.0, math.nan], [(1 + 2 * third) / 4, third]])
    torch.testing.assert_close(A.pool(2, 2)[0, 0], means, equal_nan=True)
    most = torch.tensor([[1.0, math.nan], [0.5, third]])
    torch.testing.assert_close(A.pool(2, 2, reduce="max")[0, 0], most, equal_nan=True)


def test_mass_of_segments():
    A = sightline.AttentionMatrix(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 4, 1))
    torch.testing.assert_close(A.mass(torch.tensor([2, 0, 0, 0]))[0, 0, 0], torch.tensor([0.75, 0, 0.25]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bias_of_the_smallest_float_is_not_a_mask(backend):
    # Hugging Face's additive masks hold finfo.min; a row that has it everywhere is still a softmax.
    query, key, value = torch.zeros(1, 1, 2, 4), torch.zeros(1, 1, 3, 4), torch.ones(1, 1, 3, 2)
    smallest = torch.finfo(torch.float32).min
    bias = torch.tensor([[smallest] * 3, [0, smallest, smallest]])
    with sightline.backend(backend):
        context, A = sightline.attention(query, key, value, bias=bias, return_matrix=True)
    torch.testing.assert_close(context, torch.ones(1, 1, 2, 2))
    assert A[0, 0, 1].tolist() == [1, 0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_entropy_of_huge_logits_is_not_below_zero(backend):
    # Steps of float32 near 1e5 are 0.008: weights pass 1 by as much, and 1 · ln 1.008 would make the entropy -0.008.
    torch.manual_seed(0)
    query, key = 60 * torch.randn(1, 1, 300, 64), 60 * torch.randn(1, 1, 300, 64)
    with sightline.backend(backend):
        A = sightline.AttentionMatrix(query, key)
        assert A.max_score().max() > 1e4
        entropy = A.entropy()
    assert entropy.min() >= 0
    weights = (query.double() @ key.double().mT / 8).softmax(-1)
    exact = -(weights * weights.clamp_min(1e-300).log()).sum(-1)
    torch.testing.assert_close(entropy.double(), exact, rtol=0, atol=0.02)

"""Heads beside heads and matrix beside matrix, against dense rows in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline
from cases import cases, close
from sightline import measure
from sightline.measure import side_by_side

from .dense import of_weights, sees, small, some_queries


def full_rows(stages):
    """Rows with what the sink takes as one more key."""
    weights = stages.weights
    return torch.cat((weights, (1 - weights.sum(-1, keepdim=True)).clamp(min=0)), -1)


def divergence(p, q):
    """½ KL(p, m) + ½ KL(q, m), term by term."""
    mixed = (p + q) / 2
    terms = [torch.where(x > 0, x * (x / mixed.clamp(min=1e-300)).clamp(min=1e-300).log(), 0) for x in (p, q)]
    return (terms[0] + terms[1]).sum(-1) / 2


@settings(max_examples=8)
@given(case=cases(), other=st.booleans(), seed=st.integers(0, 99), block=st.sampled_from([1, 1 << 21]))
def test_heads_beside_heads(case, other, seed, block):
    small(case)
    b, h, n, m = case.shape
    stages, A, queries = [case.reference()], [case.matrix()], some_queries(case.shape, seed)
    if other:  # a second layer, without mask or sinks
        query = torch.randn(b, 2, n, 3)
        key = torch.randn(b, 1, m, 3)
        stages.append(sightline.reference.attention(query, key, key))
        A.append(sightline.AttentionMatrix(query, key))
    rows = torch.cat([sees(s) for s in stages], 1) & queries[:, None]
    full = torch.cat([full_rows(s) for s in stages], 1)
    if case.options.get("sinks") is None:
        # An empty row has no weight anywhere; it does not count.
        full[..., -1] = 0
    plain = torch.cat([s.weights for s in stages], 1)
    joined = full if case.options.get("sinks") is not None else plain
    heads = joined.shape[1]
    js, cosine = torch.full((2, b, heads, heads), math.nan).double()
    for x in range(heads):
        for y in range(heads):
            for entry in range(b):
                both = rows[entry, x] & rows[entry, y]
                p, q = joined[entry, x][both], joined[entry, y][both]
                js[entry, x, y] = divergence(p, q).mean()
                cosine[entry, x, y] = torch.nn.functional.cosine_similarity(p, q, dim=-1, eps=1e-300).mean()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(side_by_side, "BLOCK_ENTRIES", block)
        close(measure.head_divergence(A, queries=queries), js, 1e-5)
        close(measure.head_similarity(A, queries=queries), cosine, 1e-5)


@settings(max_examples=12)
@given(case=cases(), seed=st.integers(0, 99))
def test_compare(case, seed):
    small(case)
    b, h, n, m = case.shape
    left, A = case.reference(), case.matrix()
    query, key = torch.randn(b, h, n, 3), torch.randn(b, h, m, 3)
    mask = torch.rand(b, 1, n, m) < 0.8
    right = sightline.reference.attention(query, key, key, mask=mask)
    B = sightline.AttentionMatrix(query, key, mask=mask)
    queries = some_queries(case.shape, seed)
    rows = sees(left) & sees(right) & queries[:, None]
    k = min(m, 3)
    found = measure.compare(A, B, k=k, queries=queries)
    p, q = full_rows(left), full_rows(right)

    def mean(values):
        return torch.tensor(
            [[values[i, j][rows[i, j]].mean() for j in range(h)] for i in range(b)], dtype=torch.float64
        )

    close(found.total_variation, mean((p - q).abs().sum(-1) / 2), 1e-5)
    close(found.jensen_shannon, mean(divergence(p, q)), 1e-5)
    entropies = [torch.special.entr(s.weights).sum(-1) for s in (left, right)]
    close(found.entropy_difference, mean(entropies[1] - entropies[0]), 1e-5)
    mine, theirs = A.topk(k).indices, B.topk(k).indices
    shared = torch.zeros(b, h, n).double()
    for entry in range(b):
        for head in range(h):
            for i in range(n):
                one, two = ({x for x in t[entry, head, i].tolist() if x >= 0} for t in (mine, theirs))
                shared[entry, head, i] = len(one & two) / max(1, len(one), len(two))
    close(found.topk_overlap, mean(shared), 1e-6)
    for name in ("total_variation", "jensen_shannon", "entropy_difference"):
        close(getattr(measure, name)(A, B, queries=queries), getattr(found, name), 1e-6)
    assert measure.total_variation(A, A).nan_to_num(0).abs().max() < 1e-6


def test_by_hand():
    left = of_weights(torch.tensor([[[[0.5, 0.5, 0.0]], [[1.0, 0.0, 0.0]]]]))
    right = of_weights(torch.tensor([[[[0.0, 0.5, 0.5]], [[1.0, 0.0, 0.0]]]]))
    found = measure.compare(left, right, k=2)
    close(found.total_variation, torch.tensor([[0.5, 0]]), 1e-6)
    # The mix is (1/4, 1/2, 1/4): 3/2 ln 2 - ln 2.
    close(found.jensen_shannon, torch.tensor([[math.log(2) / 2, 0]]), 1e-6)
    close(found.topk_overlap, torch.tensor([[0.5, 1]]), 1e-6)
    close(found.entropy_difference, torch.zeros(1, 2), 1e-6)
    close(
        measure.head_divergence(left)[0, 0, 1],
        torch.tensor(0.75 * math.log(4 / 3) + 0.25 * math.log(4) - math.log(2) / 2),
        1e-6,
    )
    close(measure.head_similarity(left)[0, 0, 1], torch.tensor(math.sqrt(0.5)), 1e-6)


def test_layers_side_by_side():
    layers = [sightline.AttentionMatrix(*torch.randn(2, 1, 2, 9, 4)) for _ in range(3)]
    found = measure.compare(layers, layers[::-1], k=4)
    assert found.jensen_shannon.shape == (3, 1, 2)
    close(found.jensen_shannon[0], measure.jensen_shannon(layers[0], layers[2]), 1e-6)
    close(found.jensen_shannon[1], torch.zeros(1, 2), 1e-6)


def test_errors():
    A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 9, 4))
    longer = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 11, 4))
    with pytest.raises(
        ValueError, match=r"N=9, M=9 on the left, N=11, M=11 on the right.*cut or pad.*merge_words"
    ):
        measure.compare(A, longer)
    with pytest.raises(ValueError, match=r"B=1, H=2 on the left, B=1, H=1 on the right.*A\[:, 2:3\]"):
        measure.total_variation(A, A[:, :1])
    with pytest.raises(ValueError, match="compare: 2 layers on the left, 1 on the right"):
        measure.compare([A, A], [A])
    with pytest.raises(ValueError, match="layer 1 has B=1, N=11, M=11, but layer 0 has B=1, N=9, M=9"):
        measure.head_divergence([A, longer])

"""Measures of one matrix against their formula on dense float64 weights, and by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline
from cases import cases, close
from sightline import measure
from sightline.measure.rows import viewers, visible

from .dense import mean_over, of_weights, places, sees, some_queries

few = settings(max_examples=15)
seeds = st.integers(0, 99)


@few
@given(case=cases(empty=True), seed=seeds)
def test_who_sees_whom(case, seed):
    b, h, n, m = case.shape
    seen = case.reference().masked > -torch.inf
    A = case.matrix()
    found = visible(A)
    assert torch.equal(found.counts, seen.sum(-1))
    place = torch.arange(m)
    if m:
        assert torch.equal(found.first, torch.where(seen, place, m).amin(-1).masked_fill(~seen.any(-1), -1))
        assert torch.equal(found.last, torch.where(seen, place, -1).amax(-1))
    assert torch.equal(viewers(A), seen.sum(-2))
    queries = some_queries(case.shape, seed)
    assert torch.equal(viewers(A, queries), (seen & queries[:, None, :, None]).sum(-2))


@few
@given(case=cases(), seed=seeds)
def test_entropy_and_collapse(case, seed):
    stages, A, queries = case.reference(), case.matrix(), some_queries(case.shape, seed)
    wanted = torch.special.entr(stages.weights).sum(-1)
    rows = sees(stages)
    close(measure.entropy(A), mean_over(wanted, rows), 3e-5)
    close(measure.entropy(A, queries=queries), mean_over(wanted, rows & queries[:, None]), 3e-5)
    close(measure.entropy(A, per_query=True), wanted, 3e-5)
    counts = (stages.masked > -torch.inf).sum(-1)
    normalized = torch.where(counts > 1, wanted / counts.clamp(min=2).double().log(), 0)
    close(measure.entropy(A, normalized=True, per_query=True), normalized, 3e-5)
    close(measure.entropy(A, normalized=True), mean_over(normalized, counts > 1), 3e-5)
    collapsed = mean_over((normalized < 0.5).double(), counts > 1)
    if not ((normalized - 0.5).abs() < 1e-5).any():
        close(measure.entropy_collapse(A, 0.5), collapsed, 1e-6)


@few
@given(case=cases(empty=True))
def test_max_logit(case):
    stages, A = case.reference(), case.matrix()
    b, h, n, m = case.shape
    scaled = stages.scaled.masked_fill(stages.masked == -torch.inf, -torch.inf)
    for stage, wanted in (("masked", stages.masked), ("scaled", scaled)):
        rows = wanted.amax(-1) if m else torch.full((b, h, n), -torch.inf)
        close(measure.max_logit(A, stage=stage, per_query=True), rows, 1e-5)
        heads = rows.amax(-1) if n else torch.full((b, h), -torch.inf)
        close(measure.max_logit(A, stage=stage), heads, 1e-5)


@few
@given(case=cases(), seed=seeds, data=st.data())
def test_sinks(case, seed, data):
    b, h, n, m = case.shape
    stages, A, queries = case.reference(), case.matrix(), some_queries(case.shape, seed)
    rows = sees(stages)
    seen = (stages.masked > -torch.inf).any(1).any(1)
    count = data.draw(st.sampled_from([0, 1, 2, 40]))
    first = torch.zeros(b, m, dtype=torch.bool)
    for entry in range(b):
        if seen[entry].any():
            start = int(seen[entry].nonzero()[0])
            first[entry, start : start + count] = True
    chance = torch.rand(b, m) < 0.3
    place = torch.arange(m)
    chosen = [
        (count, first),
        (slice(None, None, 2), (place % 2 == 0).expand(b, m)),
        ([0, -1], ((place == 0) | (place == m - 1)).expand(b, m)),
        (chance, chance),
        (torch.full((b, 1), m - 1), (place == m - 1).expand(b, m)),
    ]
    for keys, mask in chosen:
        wanted = stages.weights.masked_fill(~mask[:, None, None], 0).sum(-1)
        close(measure.sink_mass(A, keys, per_query=True), wanted, 1e-5)
        close(measure.sink_mass(A, keys, queries=queries), mean_over(wanted, rows & queries[:, None]), 1e-5)
    sinks = case.options.get("sinks")
    share = torch.zeros(b, h, n).double() if sinks is None else 1 - stages.weights.sum(-1)
    close(measure.learned_sink_mass(A, per_query=True), share, 1e-5)
    close(measure.learned_sink_mass(A), mean_over(share, rows), 1e-5)
    heads = mean_over(stages.weights.masked_fill(~first[:, None, None], 0).sum(-1), rows)
    if not ((heads - 0.3).abs() < 1e-5).any():
        there = ~heads.isnan()
        close(measure.sink_rate([A, A], keys=count), (heads > 0.3).sum(1) / there.sum(1), 1e-6)


@few
@given(case=cases(), seed=seeds)
def test_received(case, seed):
    stages, A, queries = case.reference(), case.matrix(), some_queries(case.shape, seed)
    close(measure.received(A), stages.weights.sum(-2), 5e-5)
    some = stages.weights * queries[:, None, :, None]
    seen = ((stages.masked > -torch.inf) & queries[:, None, :, None]).sum(-2)
    close(measure.received(A, queries=queries), some.sum(-2), 5e-5)
    close(measure.received(A, queries=queries, normalized=True), some.sum(-2) / seen.clamp(min=1), 1e-5)


@few
@given(case=cases(), align=st.sampled_from(["bottom-right", "top-left", 2]))
def test_places(case, align):
    b, h, n, m = case.shape
    stages, A = case.reference(), case.matrix()
    place = torch.arange(n) + {"bottom-right": m - n, "top-left": 0, 2: 2}[align]
    steps = (place[:, None] - torch.arange(m)).abs()
    seen, rows = stages.masked > -torch.inf, sees(stages)
    distance = (stages.weights * steps).sum(-1)
    close(measure.attention_distance(A, align=align), mean_over(distance, rows), 1e-3)
    farthest = torch.where(seen, steps, 0).amax(-1)
    wanted = torch.where(rows, 1 - distance / farthest.clamp(min=1), 0)
    close(measure.diagonality(A, align=align, per_query=True), wanted, 5e-5)
    close(measure.diagonality(A, align=align), mean_over(wanted, rows), 5e-5)
    local = stages.weights.masked_fill(steps > 3, 0).sum(-1)
    close(measure.local_mass(A, 3, align=align), mean_over(local, rows), 5e-5)
    close(measure.local_mass(A, 3, align=align, per_query=True), local, 5e-5)
    for offset in (-3, -1, 0, 1):
        key = place + offset
        inside = (key >= 0) & (key < m)
        at = stages.weights[:, :, torch.arange(n), key.clamp(0, m - 1)] * inside
        close(measure.offset_score(A, offset, align=align, per_query=True), at, 5e-5)
        close(measure.offset_score(A, offset, align=align), mean_over(at, rows & inside), 5e-5)
    assert torch.equal(measure.previous_token(A).nan_to_num(-1), measure.offset_score(A, -1).nan_to_num(-1))
    assert torch.equal(measure.next_token(A).nan_to_num(-1), measure.offset_score(A, 1).nan_to_num(-1))


@pytest.mark.parametrize("special, patch", [(0, 1.0), (2, 16.0)])
@pytest.mark.parametrize("masked", [False, True])
def test_grid_distance(special, patch, masked):
    height, width = 5, 7
    n = special + height * width
    query, key, value = torch.randn(3, 2, 3, n, 4)
    mask = torch.rand(2, 3, n, n) < 0.3 if masked else None
    if masked:
        mask[:, :, 4] = False
    wanted = sightline.reference.attention(query, key, value, mask=mask).weights
    weights = wanted.clone()
    weights[..., :special] = 0
    centre = [(i // width, i % width) for i in range(height * width)]
    apart = torch.tensor([[math.dist(a, b) for b in centre] for a in centre]).double()
    total = torch.zeros(2, 3, n).double()
    total[..., special:] = (weights[..., special:, special:] * apart).sum(-1)
    mass = weights.sum(-1)
    mass[..., :special] = 0
    found = torch.where(mass > 0, total / mass.clamp(min=1e-30), 0) * patch
    A = sightline.AttentionMatrix(query, key, mask=mask)
    options = {"special": special, "patch": patch}
    close(measure.grid_distance(A, (height, width), per_query=True, **options), found, 1e-4)
    close(measure.grid_distance(A, (height, width), **options), mean_over(found, mass > 0), 1e-4)


def test_by_hand():
    weights = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0.25, 0.75, 0], [0.1, 0.2, 0.3, 0.4]])[
        None, None
    ]
    A = of_weights(weights)
    one = pytest.approx
    assert float(measure.sink_mass(A)) == one((1 + 0.5 + 0 + 0.1) / 4)
    assert float(measure.previous_token(A)) == one((0.5 + 0.25 + 0.3) / 3)
    assert float(measure.next_token(A)) == one(0.0)
    assert float(measure.attention_distance(A)) == one((0 + 0.5 + 0.25 + 0.3 + 0.4 + 0.3) / 4)
    assert float(measure.local_mass(A, radius=1)) == one((1 + 1 + 1 + 0.7) / 4)
    assert measure.received(A)[0, 0].tolist() == one([1.6, 0.95, 1.05, 0.4])
    # -inf biases hide, so that key 3 is seen by one query only.
    assert measure.received(A, normalized=True)[0, 0].tolist() == one([1.6 / 3, 0.95 / 3, 1.05 / 2, 0.4])
    assert measure.diagonality(A, per_query=True)[0, 0].tolist() == one([1, 0.5, 0.75, 1 - 1.0 / 3])
    assert measure.entropy(A, per_query=True)[0, 0, :2].tolist() == one([0, math.log(2)], abs=1e-6)
    assert float(measure.entropy_collapse(A)) == 0


def test_left_padding_moves_the_first_key():
    mask = sightline.causal() & sightline.ranges(torch.tensor([2, 0]).view(2, 1, 1), 5)
    A = sightline.AttentionMatrix(*torch.zeros(2, 2, 1, 5, 4), mask=mask)
    found = measure.sink_mass(A, per_query=True)[:, 0]
    close(found[0], torch.tensor([0, 0, 1, 1 / 2, 1 / 3]), 1e-6)
    close(found[1], 1 / torch.arange(1, 6), 1e-6)
    close(measure.sink_mass(A)[0], torch.tensor([(1 + 1 / 2 + 1 / 3) / 3]), 1e-6)


def test_masked_rows_are_no_zeros_in_the_mean():
    A = sightline.AttentionMatrix(
        *torch.zeros(2, 1, 1, 4, 2), mask=sightline.ranges(torch.tensor([4, 4, 0, 0]), 4)
    )
    close(measure.entropy(A), torch.full((1, 1), math.log(4)), 1e-6)
    nothing = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2), mask=sightline.prefix(0))
    for function in (measure.entropy, measure.sink_mass, measure.attention_distance, measure.diagonality):
        assert torch.isnan(function(nothing)).all()
        assert (function(nothing, per_query=True) == 0).all()


def test_sliced_matrices_keep_their_shape():
    A = sightline.AttentionMatrix(*torch.randn(2, 2, 3, 7, 4))
    whole, per_query = measure.entropy(A), measure.entropy(A, per_query=True)
    assert torch.equal(measure.entropy(A[1, 2]), whole[1, 2])
    assert torch.equal(measure.entropy(A[:, 2], per_query=True), per_query[:, 2])
    assert measure.received(A[0]).shape == (3, 7)
    assert measure.grid_distance(A[0, 0], (1, 7)).shape == ()
    assert measure.compare(A[0], A[1]).total_variation.shape == (3,)


def test_half_precision_is_measured_in_float32():
    query, key = torch.randn(2, 1, 2, 33, 8).bfloat16()
    A = sightline.AttentionMatrix(query, key)
    wanted = sightline.reference.attention(query, key, key).weights
    found = measure.head_similarity(A)
    assert found.dtype == torch.float32
    unit = wanted / wanted.norm(dim=-1, keepdim=True)
    close(found, torch.einsum("bhnm,bknm->bhk", unit, unit) / 33, 1e-5)


def test_positions_of_generated_queries():
    """With a cache, few queries look at many keys: the last one stands at the last key."""
    A = sightline.AttentionMatrix(torch.randn(1, 2, 3, 4), torch.randn(1, 2, 50, 4), mask=sightline.causal())
    weights = A.dense().double()
    place = places((1, 2, 3, 50))
    wanted = torch.stack([weights[0, :, i, place[i] - 1] for i in range(3)], -1).mean(-1)
    close(measure.previous_token(A)[0], wanted, 1e-6)

"""Heads made to do one thing each, and the labels they get."""

import math

import pytest
import torch

import sightline
from cases import close
from sightline import measure

from .dense import of_weights

N = 40


def rows(pattern):
    """[N,N] weights: ``pattern(i)`` gives row i's weights by key."""
    weights = torch.zeros(N, N)
    for i in range(N):
        found = {j: w for j, w in pattern(i).items() if 0 <= j < N}
        total = sum(found.values())
        for j, w in found.items():
            weights[i, j] = w / total
    # Keys without weight are visible all the same.
    return (weights + 1e-6) / (weights + 1e-6).sum(-1, keepdim=True)


# A sequence of ten random tokens, four times over.
TOKENS = (torch.arange(10) * 7 % 31).repeat(4)
HEADS = {
    "sink": rows(lambda i: {0: 1}),
    "previous token": rows(lambda i: {i - 1: 0.8, i: 0.2}),
    "next token": rows(lambda i: {i + 1: 0.8, i: 0.2}),
    "current token": rows(lambda i: {i: 0.9, i - 4: 0.1}),
    "positional": rows(lambda i: {i - 4: 0.7, i: 0.3}),
    "induction": rows(lambda i: {i - 9: 0.7, i - 2: 0.3} if i >= 10 else {i - 2: 0.5, i: 0.5}),
    "duplicate token": rows(lambda i: dict.fromkeys(range(i % 10, i, 10), 1.0) or {0: 1}),
    "broad": rows(lambda i: dict.fromkeys(range(N), 1)),
    "local": rows(lambda i: {i + o: 1.0 for o in range(-4, 5)}),
    "mixed": rows(lambda i: {i - 1: 0.2, i - 15: 0.3, i - 17: 0.3, i + 13: 0.2}),
}


@pytest.mark.parametrize("sink", [0.0, 0.6])
def test_every_label(sink):
    """With most of the weight on the first key, the labels stay: the sink comes out first."""
    names = list(HEADS)
    weights = torch.stack([HEADS[n] * (1 - sink) + sink * (torch.arange(N) == 0) for n in names])
    found = measure.head_labels(of_weights(weights[None]), TOKENS)
    assert [one.label for one in found] == names
    by_name = dict(zip(names, found, strict=True))
    if sink:
        assert all(one.scores["sink"] >= sink for one in found)
    assert by_name["previous token"].score == pytest.approx(0.8, abs=0.02)
    assert by_name["positional"].offset == -4
    assert by_name["previous token"].offset == -1
    assert by_name["induction"].score == pytest.approx(0.7, abs=0.02)
    assert by_name["duplicate token"].score == pytest.approx(1, abs=0.05)
    # The first row's only key besides the sink may be missing; the rest is as broad as can be.
    assert by_name["broad"].score == pytest.approx(1, abs=0.01)


def test_scores_against_their_formula():
    """The share of what the sinks leave, on random weights, a learned sink and a mask besides."""
    mask = torch.rand(2, 1, N, N) < 0.6
    query, key = torch.randn(2, 2, 3, N, 4)
    options = {"mask": sightline.dense(mask) & sightline.causal(), "sinks": torch.tensor([0.0, 1.0, -9.0])}
    weights = sightline.reference.attention(query, key, key, **options).weights
    A = sightline.AttentionMatrix(query, key, **options)
    seen = (mask & torch.ones(N, N).tril().bool()).expand(2, 3, N, N)
    for sinks in ([0, 5], 0):
        is_sink = torch.zeros(N, dtype=torch.bool)
        is_sink[torch.tensor(sinks, dtype=torch.long)] = bool(sinks)
        rest = weights.masked_fill(is_sink, 0)
        left = rest.sum(-1)
        there = seen.any(-1)
        found = measure.head_labels(
            A, TOKENS, sinks=sinks, thresholds=measure.Thresholds(offsets=2, radius=3)
        )
        place = torch.arange(N)
        steps = place[:, None] - place

        def share(match, there=there, rest=rest, left=left):
            possible = there & (match & ~is_sink).any(-1)  # noqa: B023
            return (rest * match).sum(-1)[:, :].mul(possible).sum((0, 2)) / (left * possible).sum((0, 2))

        wanted = {
            "previous token": share(steps == 1),
            "current token": share(steps == 0),
            "next token": share(steps == -1),
            "positional": torch.stack([share(steps == 2), share(steps == -2)]).amax(0),
            "local": (rest * (steps.abs() <= 3)).sum((0, 2, 3)) / (left * there).sum((0, 2)),
            "sink": torch.stack([(1 - left)[:, h][there[:, h]].mean() for h in range(3)]),
        }
        own = TOKENS[:, None] == TOKENS
        match = {
            "duplicate token": own & (steps > 0),
            "induction": own.roll(1, 1) & (steps > 0) & (place > 0),
        }
        for name, pairs in match.items():
            possible = there & (pairs & ~is_sink & seen).any(-1)
            wanted[name] = ((rest * pairs).sum(-1) * possible).sum((0, 2)) / (left * possible).sum((0, 2))
        others = (seen & ~is_sink).sum(-1)
        even = rest / left.clamp(min=1e-30)[..., None]
        entropy = left * torch.special.entr(even).sum(-1)
        counts = others > 1
        most = left * others.clamp(min=1).double().log()
        wanted["broad"] = (entropy * counts).sum((0, 2)) / (most * counts).sum((0, 2))
        for name, value in wanted.items():
            scores = torch.tensor([one.scores[name] for one in found])
            close(scores, value, 2e-5)


def test_heads_without_rows():
    A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 6, 4), mask=sightline.prefix(0))
    found = measure.head_labels(A)
    assert [one.label for one in found] == ["empty", "empty"]
    assert math.isnan(found[0].score)


def test_without_tokens_nothing_is_said_of_them():
    A = of_weights(HEADS["induction"][None, None])
    (found,) = measure.head_labels(A)
    assert found.label != "induction"
    assert "induction" not in found.scores


def test_queries_choose():
    """Padding that looks at itself does not make the head one for the current token."""
    weights = HEADS["previous token"].clone()
    weights[10:] = torch.eye(N)[10:]
    A = of_weights(weights[None, None])
    assert measure.head_labels(A)[0].label == "current token"
    assert measure.head_labels(A, queries=torch.arange(N) < 10)[0].label == "previous token"

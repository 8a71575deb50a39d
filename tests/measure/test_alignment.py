"""Words, word pairs, and monotonic paths through frames."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline
from cases import cases, close
from sightline import measure
from sightline.measure import warping

from .dense import of_weights, sees, small


@settings(max_examples=15)
@given(case=cases(), per_entry=st.booleans())
def test_merge_words(case, per_entry):
    small(case)
    b, h, n, m = case.shape
    stages, A = case.reference(), case.matrix()
    query_words, key_words = torch.randint(-1, 6, (b, n)), torch.randint(-1, 4, (b, m))
    query_words[:, 0], key_words[:, -1] = 5, 3
    if not per_entry:
        query_words, key_words = query_words[0], key_words[0]
    rows = sees(stages)
    wanted = torch.zeros(b, h, 6, 4).double()
    for entry in range(b):
        for v in range(6):
            for w in range(4):
                of_key = key_words.expand(b, m)[entry] == w
                for head in range(h):
                    of_query = (query_words.expand(b, n)[entry] == v) & rows[entry, head]
                    if of_query.any():
                        part = stages.weights[entry, head][of_query][:, of_key]
                        wanted[entry, head, v, w] = part.sum(-1).mean()
    close(measure.merge_words(A, query_words, key_words), wanted, 1e-5)


def test_words_by_hand():
    weights = torch.tensor([[0.4, 0.1, 0.5], [0.2, 0.2, 0.6], [0.0, 0.0, 1.0]])
    A = of_weights(weights[None, None])
    words = torch.tensor([0, 0, 1])
    close(measure.merge_words(A, words)[0, 0], torch.tensor([[0.45, 0.55], [0, 1]]), 1e-6)
    assert measure.merge_words(A[0, 0], words).shape == (2, 2)
    # Special tokens in no word take their weight with them.
    close(
        measure.merge_words(A, words, torch.tensor([0, -1, 1]))[0, 0],
        torch.tensor([[0.3, 0.55], [0, 1]]),
        1e-6,
    )


def test_word_alignment():
    weights = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.1, 0.1, 0.8]])
    A, words = of_weights(weights[None, None]), torch.arange(3)

    def pairs(**options):
        return [(p.query, p.key) for p in measure.word_alignment(A, words, words, **options)[0]]

    assert pairs(method="argmax") == [(0, 0), (1, 0), (2, 2)]
    assert pairs() == [(0, 0), (2, 2)]
    # The other direction says: 0 from 1, 1 from 1, 2 from 2.
    reverse = of_weights(torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])[None, None])
    assert pairs(method="intersection", reverse=reverse) == [(1, 0), (2, 2)]
    assert pairs(method="union", reverse=reverse) == [(0, 0), (1, 0), (1, 1), (2, 2)]
    found = measure.word_alignment(A, words, words)[0][0]
    assert found.weight == pytest.approx(0.6)


def test_word_alignment_over_heads_layers_and_batches():
    first, second = torch.rand(2, 2, 3, 4, 6).softmax(-1)
    layers = [of_weights(first), of_weights(second)]
    query_words, key_words = torch.tensor([0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 2, 3])
    found = measure.word_alignment(layers, query_words, key_words, heads=[0, 2], method="argmax")
    merged = torch.cat([measure.merge_words(A, query_words, key_words)[:, [0, 2]] for A in layers], 1).mean(1)
    for entry in range(2):
        assert [(p.query, p.key) for p in found[entry]] == [
            (v, int(merged[entry, v].argmax())) for v in range(3)
        ]


def cheapest(costs):
    """D_ij by its definition, cell by cell."""
    n, m = costs.shape
    total = torch.full((n, m), math.inf).double()
    for i in range(n):
        for j in range(m):
            before = [total[a, c] for a, c in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if a >= 0 and c >= 0]
            total[i, j] = costs[i, j] + (min(before) if before else 0)
    return float(total[-1, -1])


@settings(max_examples=25)
@given(
    n=st.integers(1, 12), m=st.integers(1, 15), levels=st.sampled_from([2, 3, 1000]), seed=st.integers(0, 999)
)
def test_dtw(n, m, levels, seed):
    costs = torch.randint(0, levels, (n, m), generator=torch.Generator().manual_seed(seed)) / levels
    path = measure.dtw(costs)
    assert path.cost == pytest.approx(cheapest(costs))
    assert float(costs[path.tokens, path.frames].double().sum()) == pytest.approx(path.cost)
    steps = list(zip(path.tokens.tolist(), path.frames.tolist(), strict=True))
    assert steps[0] == (0, 0)
    assert steps[-1] == (n - 1, m - 1)
    moves = {(c - a, d - b) for (a, b), (c, d) in zip(steps, steps[1:], strict=False)}
    assert moves <= {(1, 0), (0, 1), (1, 1)}
    # Rows may come in blocks.
    assert measure.dtw(list(costs.split(5))).frames.tolist() == path.frames.tolist()


@settings(max_examples=10)
@given(case=cases())
def test_frame_alignment(case):
    small(case)
    b, _, n, m = case.shape
    stages, A = case.reference(), case.matrix()
    heads, start, width = [0, -1], n // 3, max(1, m - 2)
    found = measure.frame_alignment([A, A], heads=heads, rows=slice(start, None), frames=width)
    costs = -stages.weights[:, heads, start:, :width].mean(1).clamp(min=1e-38).log()
    for path, cost in zip(found, costs, strict=True):
        # Weights that float32 rounds to 0 and float64 does not cost at most the floor's share more.
        if (cost < 80).all():
            assert path.cost == pytest.approx(measure.dtw(cost).cost, rel=1e-4, abs=1e-4)
            assert float(cost[path.tokens, path.frames].sum()) == pytest.approx(path.cost, rel=1e-4, abs=1e-4)


def test_spoken_words():
    """Three tokens over ten frames of 20 ms, spoken for 4, 2 and 4 of them; the first two make a word."""
    spans = [range(0, 4), range(4, 6), range(6, 10)]
    weights = torch.full((1, 1, 3, 10), 0.01)
    for token, span in enumerate(spans):
        weights[0, 0, token, list(span)] = 1.0
    (path,) = measure.frame_alignment(of_weights(weights / weights.sum(-1, keepdim=True)))
    assert path.tokens.tolist() == [0] * 4 + [1] * 2 + [2] * 4
    assert path.frames.tolist() == list(range(10))
    times = measure.word_times(path, torch.tensor([0, 0, 1]), hop=0.02, offset=1.0)
    assert [(t.word, t.start, t.end) for t in times] == [
        (0, pytest.approx(1.0), pytest.approx(1.12)),
        (1, pytest.approx(1.12), pytest.approx(1.2)),
    ]
    assert [t.word for t in measure.word_times(path, torch.tensor([-1, 0, -1]))] == [0]


def test_a_table_that_is_too_large(monkeypatch):
    monkeypatch.setattr(warping, "STEPS_LIMIT", 50)
    with pytest.raises(
        MemoryError, match=r"dtw: the table has more than 50 cells. Align a segment at a time"
    ):
        measure.dtw(torch.zeros(6, 10))


ERRORS = {
    "method": (lambda A, w: measure.word_alignment(A, w, w, method="best"), "method: there is no 'best'; known: argmax"),
    "no reverse": (lambda A, w: measure.word_alignment(A, w, w, method="union"), "reverse: missing with method='union'"),
    "reverse": (lambda A, w: measure.word_alignment(A, w, w, reverse=A), "reverse: not used with method='mutual'"),
    "words": (lambda A, w: measure.merge_words(A, w[:2]), r"query_words: shape \[2\] does not fit \[B=1, N=3\]"),
    "word -2": (lambda A, w: measure.merge_words(A, w - 2), "query_words: words count from 0, with -1 for none, got -2"),
    "key words": (lambda A, w: measure.merge_words(cross(), w), "key_words: missing, and N=3 queries differ from M=5"),
    "frames": (lambda A, w: measure.frame_alignment(A, frames=9), "frames: must lie between 1 and 3, got 9. M is"),
    "rows": (lambda A, w: measure.frame_alignment(A, rows=slice(3, None)), "rows: must be a slice of step 1"),
    "layers": (lambda A, w: measure.frame_alignment([A, cross()]), "layer 1 has B=1, N=3, M=5"),
    "infinite": (lambda A, w: measure.dtw(torch.full((2, 2), math.inf)), "dtw: costs must be finite"),
    "empty": (lambda A, w: measure.dtw([]), "dtw: the table is empty"),
    "hop": (lambda A, w: measure.word_times(measure.frame_alignment(A)[0], w, hop=0.0), "hop: must be above 0"),
    "few words": (lambda A, w: measure.word_times(measure.frame_alignment(A)[0], w[:1]), "words: 1 words for a path over 3 tokens"),
}  # fmt: skip


def cross():
    return sightline.AttentionMatrix(torch.randn(1, 1, 3, 4), torch.randn(1, 1, 5, 4))


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, text = ERRORS[name]
    with pytest.raises(ValueError, match=text):
        call(sightline.AttentionMatrix(*torch.randn(2, 1, 1, 3, 4)), torch.arange(3))

"""Duplicate-token, induction and retrieval scores against plain loops over positions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sightline
from cases import cases, close
from sightline import measure

from .dense import mean_over, of_weights, places, small, some_queries


def matching(tokens, place, m, pattern):
    """[N,M] bool, query by query."""
    found = torch.zeros(len(place), m, dtype=torch.bool)
    ids = tokens.tolist()
    for i, p in enumerate(place.tolist()):
        if 0 <= p < m:
            earlier = range(p) if pattern == "duplicate" else range(1, p)
            back = 0 if pattern == "duplicate" else 1
            found[i, [j for j in earlier if ids[j - back] == ids[p]]] = True
    return found


@settings(max_examples=12)
@given(case=cases(), seed=st.integers(0, 99), per_entry=st.booleans())
def test_repeated_tokens(case, seed, per_entry):
    small(case)
    b, h, n, m = case.shape
    stages, A, queries = case.reference(), case.matrix(), some_queries(case.shape, seed)
    tokens = torch.randint(-2, 3, (b, m))
    tokens = tokens if per_entry else tokens[0]
    for pattern, function in (("duplicate", measure.duplicate_token), ("induction", measure.induction)):
        match = torch.stack([matching(ids, places(case.shape), m, pattern) for ids in tokens.expand(b, m)])[
            :, None
        ]
        wanted = stages.weights.masked_fill(~match, 0).sum(-1)
        there = (match & (stages.masked > -torch.inf)).any(-1)
        close(function(A, tokens, per_query=True), wanted, 1e-5)
        close(function(A, tokens), mean_over(wanted, there), 1e-5)
        close(function(A, tokens, queries=queries), mean_over(wanted, there & queries[:, None]), 1e-5)


def test_induction_by_hand():
    """[A][B][C][A][B]: the second A looks at the first B, the second B at the C, the doubled token nowhere."""
    tokens = torch.tensor([5, 6, 7, 5, 6, 6])
    weights = torch.zeros(6, 6)
    weights[:4] = torch.eye(4, 6)
    weights[3] = torch.tensor([0.1, 0.8, 0.1, 0, 0, 0])
    weights[4] = torch.tensor([0, 0.3, 0.7, 0, 0, 0])
    # After 6 at 4 stands the query itself: that is not before it.
    weights[5] = torch.tensor([0, 0.2, 0.2, 0, 0.1, 0.5])
    A = of_weights(weights[None, None])
    found = measure.induction(A, tokens, per_query=True)[0, 0]
    close(found, torch.tensor([0, 0, 0, 0.8, 0.7, 0.2]), 1e-6)
    close(measure.induction(A, tokens), torch.tensor([[(0.8 + 0.7 + 0.2) / 3]]), 1e-6)
    close(measure.duplicate_token(A, tokens), torch.tensor([[(0.1 + 0.3 + 0.3) / 3]]), 1e-6)


def test_out_of_the_window_is_no_occasion():
    tokens = torch.tensor([1, 2, 3, 1, 2, 3])
    A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 6, 2), mask=sightline.window(2, 0))
    # The last B and C see their key only from where the window reaches.
    assert measure.duplicate_token(A, tokens).isnan().all()
    close(measure.induction(A, tokens), torch.full((1, 1), 1 / 3), 1e-6)


@settings(max_examples=15)
@given(case=cases(), data=st.data())
def test_retrieval(case, data):
    small(case)
    b, h, n, m = case.shape
    stages, A = case.reference(), case.matrix()
    tokens = torch.randint(0, 3, (b, m))
    start = data.draw(st.integers(0, m - 1))
    needle = range(start, min(m, start + 5))
    written = data.draw(st.booleans())
    generated = torch.randint(-1, 3, (b, n)) if written else None
    wanted = torch.zeros(b, h).double()
    # Where two keys tie, either may be the largest.
    top = stages.weights.topk(min(2, m), dim=-1).values
    if m > 1 and ((top[..., 0] - top[..., 1]) < 1e-5).any():
        return
    for entry in range(b):
        for head in range(h):
            copied = set()
            for i in range(n):
                p = i + m - n + 1
                token = int(generated[entry, i]) if written else int(tokens[entry, p]) if 0 <= p < m else -1
                j = int(stages.weights[entry, head, i].argmax())
                if stages.weights[entry, head, i, j] > 0 and j in needle and token == int(tokens[entry, j]):
                    copied.add(j)
            wanted[entry, head] = len(copied) / len(needle)
    found = measure.retrieval(A, tokens, slice(needle.start, needle.stop), generated)
    close(found, wanted, 1e-6)


def test_retrieval_by_hand():
    tokens = torch.tensor([9, 4, 5, 9, 9])
    weights = torch.zeros(1, 2, 2, 5)
    weights[0, :, 0, 1] = weights[0, 0, 1, 2] = weights[0, 1, 1, 3] = 1  # head 0 copies 4 5, head 1 only 4
    A = of_weights(weights)
    found = measure.retrieval(A, tokens, slice(1, 3), torch.tensor([4, 5]))
    assert found.tolist() == [[1.0, 0.5]]
    assert measure.retrieval(A, tokens, slice(1, 3), torch.tensor([5, 4])).tolist() == [[0, 0]]
    assert measure.retrieval(A, tokens, slice(1, 3), torch.tensor([4, -1])).tolist() == [[0.5, 0.5]]
    assert measure.retrieval(A, tokens, []).isnan().all()


ERRORS = {
    "tokens length": (lambda A: measure.induction(A, torch.zeros(4).long()), ValueError, r"tokens: shape \[4\] .* M=5"),
    "tokens dtype": (lambda A: measure.induction(A, torch.zeros(5)), TypeError, "tokens: expected integers"),
    "tokens list": (lambda A: measure.induction(A, [1, 2]), TypeError, "tokens: expected an integer tensor"),
    "generated": (lambda A: measure.retrieval(A, torch.zeros(5).long(), 1, torch.zeros(9).long()), ValueError, r"generated: shape \[9\] .* N=5"),
    "needle": (lambda A: measure.retrieval(A, torch.zeros(5).long(), [7]), ValueError, "needle: positions from 7 to 7 do not fit M=5"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    call, kind, text = ERRORS[name]
    with pytest.raises(kind, match=text):
        call(sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 5, 2)))

"""Lengths, documents and windows as pieces for FlashAttention, without a GPU: a stand-in computes each piece."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sightline
from cases import Case, close
from sightline.backends.cuda import Cuda, flash, pieces, trust
from sightline.backends.cuda.flash import Flash
from sightline.backends.cuda.pieces import pieces_of
from sightline.backends.plain import Plain

from .standing_in import varlen, varlen_backward

# Brings the operators that are stood in for.
pytest.importorskip("torch.nn.attention.varlen", reason="PyTorch before 2.10 has no varlen_attn")

B, G, H = 2, 2, 4
HALF = torch.bfloat16


@pytest.fixture(autouse=True)
def _standing_in(monkeypatch):
    trust.forget()
    monkeypatch.setattr(flash, "varlen_attention", lambda: varlen())
    monkeypatch.setattr(torch.ops.torch_attn, "_varlen_attn_backward", varlen_backward)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is dropped
        yield
    trust.forget()


def problem_of(mask, n=12, m=12, width=8, **options):
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(B, H, n, width, generator=generator).to(HALF)
    key, value = (torch.randn(B, G, m, width, generator=generator).to(HALF) for _ in range(2))
    one = Case(query, key, value, ({} if mask is None else {"mask": mask}) | options)
    return one, one.matrix().problem


documents = torch.tensor([[0] * 5 + [1] * 4 + [2] * 3, [0] * 2 + [1] * 9 + [2]])
LENGTHS = sightline.lengths(torch.tensor([12, 5]))
#: What is seen, of 12 queries and keys; the window, and how many queries and keys stand in how many pieces.
PIECES = {
    "full": (None, (-1, -1), 24, 24, 2),
    "causal": (sightline.causal(), (-1, 0), 24, 24, 2),
    "a window": (sightline.window(3, 1), (3, 1), 24, 24, 2),
    "lengths": (LENGTHS, (-1, -1), 24, 17, 2),
    "an entry that sees nothing": (sightline.lengths(torch.tensor([7, 0])), (-1, -1), 12, 7, 1),
    "documents": (sightline.documents(documents), (-1, -1), 24, 24, 6),
    "documents, causal": (sightline.documents(documents) & sightline.causal(), (-1, 0), 24, 24, 6),
    "documents, a window": (sightline.documents(documents) & sightline.window(2, 1), (2, 1), 24, 24, 6),
    "documents, a causal window": (sightline.documents(documents) & sightline.window(1, 0), (1, 0), 24, 24, 6),
    "documents and lengths": (sightline.documents(documents) & LENGTHS, (-1, -1), 23, 17, 5),
    "other keys than queries": (sightline.documents(torch.arange(12) // 4, torch.arange(12) // 5), (-1, -1), 24, 24, 6),
    "each its own": (sightline.window(0, 0), (-1, -1), 24, 24, 24),
    "a gap between": (sightline.ranges(torch.arange(12) // 6 * 8, torch.arange(12) // 6 * 8 + 4), (-1, -1), 24, 16, 4),
}  # fmt: skip
NONE = {
    "lengths, causal": sightline.causal() & LENGTHS,
    "prefix": sightline.prefix(5) | sightline.causal(),
    "two ranges": sightline.prefix(2) | sightline.window(2, 0),
    "an offset each": sightline.causal(torch.tensor([1, -2])),
    "pieces that overlap": sightline.ranges(torch.arange(12) // 6 * 2, torch.arange(12) // 6 * 2 + 4),
    "nothing seen": sightline.lengths(torch.tensor([0, 0])),
    "dense": torch.rand(12, 12) < 0.5,
    "windows of two widths": sightline.ranges(
        (torch.arange(12) - 1 - torch.arange(12) // 6).clamp(0), torch.arange(12) + 1
    ),
}


@pytest.mark.parametrize("name", PIECES)
def test_which_pieces(name):
    mask, window, queries, keys, count = PIECES[name]
    _, problem = problem_of(mask)
    found = pieces_of(problem)
    assert found is not None and found.window == window and found.of_queries.numel() == count + 1
    assert int(found.of_queries[-1]) == queries and int(found.of_keys[-1]) == keys
    assert (found.queries is None) == (queries == 24) and (found.keys is None) == (keys == 24)


@pytest.mark.parametrize("name", NONE)
def test_no_pieces(name):
    _, problem = problem_of(NONE[name])
    assert pieces_of(problem) is None
    assert "within pieces" in str(Flash().why_not(problem)) or problem.visible is not None


def check(one, problem):
    context, lse = Cuda().forward(problem)
    wanted = one.reference()
    close(context, wanted.context, 2e-2)
    close(lse, wanted.lse, 1e-5)
    grad = torch.randn(context.shape, generator=torch.Generator().manual_seed(9)).to(HALF)
    names = ["query", "key", "value"] + ["sinks"] * (problem.sinks is not None)
    found = Cuda().backward(problem, context, lse, grad, None, names)
    plain = Plain().backward(problem, context, lse, grad, None, names)
    for field in names:
        close(found[field], plain[field], 8e-2)


@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("name", PIECES)
def test_forward_and_gradients(name, sinks):
    options = {"sinks": torch.tensor([0.5, -1.0, 2.0, -math.inf])} if sinks else {}
    check(*problem_of(PIECES[name][0], **options))


@pytest.mark.parametrize("n, m", [(5, 12), (12, 5), (1, 12), (12, 1)])
@pytest.mark.parametrize("mask", ["lengths", "documents"])
def test_other_lengths(n, m, mask):
    made = {
        "lengths": sightline.lengths(torch.tensor([m, 1])),
        "documents": sightline.documents(torch.arange(n) // 4, torch.arange(m) // 4),
    }[mask]
    one, problem = problem_of(made, n, m)
    assert pieces_of(problem) is not None
    check(one, problem)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=5),
    st.tuples(st.integers(-1, 3), st.integers(-1, 3)),
)
def test_whatever_has_pieces_says_what_the_ranges_say(drawn, window):
    """Pieces of some queries and keys with a gap after each; whether found or not, what is found is true."""
    low, high, start = [], [], 0
    for queries, keys, gap in drawn:
        for i in range(queries):
            at = start + i + keys - queries
            first = start if window[0] < 0 else max(start, at - window[0])
            last = start + keys if window[1] < 0 else min(start + keys, at + window[1] + 1)
            low, high = [*low, min(first, start + keys)], [*high, max(last, start)]
        start += keys + gap
    if not low or not start:
        return
    n, m = len(low), start
    mask = sightline.ranges(torch.tensor(low), torch.tensor(high))
    problem = problem_of(mask, n, m)[1]
    found = pieces_of(problem)
    if found is None:
        return
    seen = torch.zeros(B * n, B * m, dtype=torch.bool)
    rows = torch.arange(B * n) if found.queries is None else found.queries
    columns = torch.arange(B * m) if found.keys is None else found.keys
    for s in range(found.of_queries.numel() - 1):
        own = rows[found.of_queries[s] : found.of_queries[s + 1]]
        keys = columns[found.of_keys[s] : found.of_keys[s + 1]]
        i, j = torch.arange(len(own))[:, None] + len(keys) - len(own), torch.arange(len(keys))
        left, right = found.window
        seen[own[:, None], keys] = ((j >= i - left) | (left < 0)) & ((j <= i + right) | (right < 0))
    wanted = (torch.arange(m) >= torch.tensor(low)[:, None]) & (torch.arange(m) < torch.tensor(high)[:, None])
    assert torch.equal(seen, torch.block_diag(*[wanted.long()] * B).bool())


def test_ranges_are_looked_at_once(monkeypatch):
    _, problem = problem_of(LENGTHS)
    problem = replace(problem, ranges=problem.ranges.clone())
    asked = []
    own = pieces._found
    monkeypatch.setattr(pieces, "_found", lambda *given: asked.append(1) or own(*given))
    first = pieces_of(problem)
    assert pieces_of(problem) is first and len(asked) == 1
    problem.ranges[1, ..., 1] = 3  # changed in place
    assert int(pieces_of(problem).of_keys[-1]) == 15 and len(asked) == 2


def test_a_number_that_is_not_finite_is_nothing_against_a_kernel():
    """A NaN that somebody gives makes its rows NaN, and says nothing of whose kernel computed them."""
    one, _ = problem_of(None)
    for number in (math.nan, math.inf):
        query, value = one.query.clone(), one.value.clone()
        query[0, 0, 3], value[1, 0, 4] = number, number
        context, _ = Cuda().forward(Case(query, one.key, value, {}).matrix().problem)
        assert not context[0, 0, 3].isfinite().any() and trust.dropped("flash") is None

"""Scores that are written to, as a whole or through a view, before or after their softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import sightline

#: Rows 0, 4, 8 and 12 of 13 are compared with the context: what happens elsewhere has to be followed.
B, H, N, D = 2, 4, 13, 8
Q, K, V = torch.randn(3, B, H, N, D, generator=torch.Generator().manual_seed(0))
BIAS = torch.randn(H, N, N, generator=torch.Generator().manual_seed(1))
LATER = torch.ones(N, N).triu(1).bool()
INF = torch.inf


def slice_of_columns(s: Tensor) -> None:
    s[..., 3:] = -INF


def part_of_a_row(s: Tensor) -> None:
    s[..., 6, :5] = -1e9


def bias_of_a_part(s: Tensor) -> None:
    s[..., 1:, 1:] += BIAS[:, 1:, 1:]


def bias_with_a_factor(s: Tensor) -> None:
    s[..., 1:, 1:].sub_(BIAS[:, 1:, 1:], alpha=0.5)


def the_diagonal(s: Tensor) -> None:
    s.diagonal(dim1=-2, dim2=-1).fill_(-INF)


def the_diagonal_by_name(s: Tensor) -> None:
    torch.diagonal(s, 1, -2, -1).copy_(torch.tensor(-INF))


def places_of_a_view(s: Tensor) -> None:
    s.view(B * H, N, N)[..., torch.tensor([2, 5])] = -INF


def some_places(s: Tensor) -> None:
    s.index_put_(tuple(torch.tensor([[1, 2, 6, 4], [0, 3, 7, 5]]).T), torch.tensor(-INF))


def some_places_added_up(s: Tensor) -> None:
    s.index_put_(tuple(torch.tensor([[1, 2, 6, 4]] * 2).T), torch.tensor([1.0, 2.0]), accumulate=True)


def a_mask_of_one_entry(s: Tensor) -> None:
    s[1].masked_scatter_(LATER, torch.full((s.numel(),), -INF))


def columns_of_the_transposed(s: Tensor) -> None:
    s.transpose(-1, -2)[..., 3:, 6] = -INF


def one_by_one(s: Tensor) -> None:
    for number, entry in enumerate(s.unbind(0)):
        entry[:, :, 10 + number :] = -INF


def halves(s: Tensor) -> None:
    left, right = s.chunk(2, dim=1)
    left -= BIAS[0]
    right.masked_fill_(LATER, -INF)


def a_bool_index(s: Tensor) -> None:
    s[:, :, LATER] = -INF


def by_index(s: Tensor) -> None:
    s.index_fill_(-1, torch.tensor([3, 7]), -INF)
    s.index_add_(2, torch.tensor([6]), BIAS[:, :1].expand(B, H, 1, N))
    s.scatter_(-1, torch.tensor([2]).expand(B, H, N, 1), -INF)


def into_itself(s: Tensor) -> None:
    torch.add(s, BIAS, out=s)


FOLLOWED = [
    slice_of_columns, part_of_a_row, bias_of_a_part, bias_with_a_factor, the_diagonal, the_diagonal_by_name,
    places_of_a_view, some_places, some_places_added_up, a_mask_of_one_entry, columns_of_the_transposed,
    one_by_one, halves, a_bool_index, by_index, into_itself,
]  # fmt: skip


def a_factor(s: Tensor) -> None:
    s[..., 6, 3].mul_(3)


def a_number(s: Tensor) -> None:
    s.view(B * H, N, N)[:, 6, torch.tensor([2, 5])] = 1.5


def zeros(s: Tensor) -> None:
    s[..., 6, :].zero_()


def bounds(s: Tensor) -> None:
    s[..., 6, :].clamp_(-0.1, 0.1)


def a_choice(s: Tensor) -> None:
    s[..., 3:] = torch.where(LATER[:, 3:], -INF, s[..., 3:])


def a_neighbour(s: Tensor) -> None:
    s[..., 7, :] += s[..., 6, :]


DENSE = [a_factor, a_number, zeros, bounds, a_choice, a_neighbour]


def traced(write: Callable[[Tensor], None], mode: type = torch.no_grad) -> tuple[Any, Tensor]:
    with mode(), sightline.trace(None) as trace:
        scores = Q @ K.mT / D**0.5
        write(scores)
        weights = scores.softmax(-1)
        weights @ V
    assert len(trace) == 1
    return trace, weights.nan_to_num(0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("write", FOLLOWED + DENSE)
def test_scores_that_are_written_to(write: Callable[[Tensor], None], mode: type) -> None:
    trace, weights = traced(write, mode)
    assert trace[0].reason is None
    assert trace[0].how == ("softmax(q·kᵀ)·v" if write in FOLLOWED else "softmax(scores)·v")
    torch.testing.assert_close(trace[0].matrix.dense(), weights)


def test_what_is_written_is_kept_once_for_what_has_the_same() -> None:
    problem = traced(slice_of_columns)[0][0].matrix.problem
    assert problem.ranges is not None and problem.ranges.shape[:2] == (1, 1)
    assert problem.visible is None and problem.bias is None
    assert traced(the_diagonal)[0][0].matrix.problem.ranges.shape == (1, 1, N, 2, 2)
    assert traced(bias_of_a_part)[0][0].matrix.problem.bias.shape == (1, H, N, N)


VIEWS: list[Callable[[Tensor, int, int], Tensor]] = [
    lambda s, i, j: s[..., i:, j],
    lambda s, i, j: s[:, i % H, min(i, j) : max(i, j) + 1],
    lambda s, i, j: s.mT[..., j, ::2],
    lambda s, i, j: s.flatten(0, 1)[i % 8, j:],
    lambda s, i, j: s.permute(2, 0, 3, 1)[i],
    lambda s, i, j: s.diagonal(i - j, -2, -1),
    lambda s, i, j: s.unfold(-1, 3, 4)[..., i, j % 3, :],
    lambda s, i, j: s,
]
WRITES: list[Callable[[Tensor], object]] = [
    lambda t: t.fill_(-INF),
    lambda t: t.add_(torch.linspace(-1, 1, t.numel()).view(t.shape)),
    lambda t: t.add_(1.0),
    lambda t: t.masked_fill_(torch.arange(t.numel()).view(t.shape) % 3 == 0, -INF),
    lambda t: t.mul_(0.5),
    lambda t: t.copy_(torch.full_like(t, -INF)),
    lambda t: t[..., ::2].zero_(),
    lambda t: torch.mul(t, 2, out=t),
]
PLACE = st.integers(0, N - 1)


@given(
    st.lists(st.tuples(st.sampled_from(VIEWS), st.sampled_from(WRITES), PLACE, PLACE), min_size=1, max_size=4)
)
def test_whatever_is_written_wherever(
    steps: list[tuple[Callable[..., Tensor], Callable[..., object], int, int]],
) -> None:
    def write(scores: Tensor) -> None:
        for view, change, i, j in steps:
            change(view(scores, i, j))

    trace, weights = traced(write)
    assert trace[0].reason is None
    dense = trace[0].matrix.dense().nan_to_num(0)  # rows that see nothing: 0, or the model's own NaN
    torch.testing.assert_close(dense, weights, atol=1e-5, rtol=1e-4)


# --- what scores are made of, and where results are put ------------------------------------------------


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("which", ["query", "key", "bias", "mask"])
def test_what_scores_were_made_of_is_written_to(which: str, mode: type) -> None:
    with mode(), sightline.trace(None) as trace:
        made_of = {"query": Q.clone(), "key": K.clone(), "bias": BIAS.clone(), "mask": LATER.clone()}
        scores = (made_of["query"] @ made_of["key"].mT + made_of["bias"]).masked_fill(made_of["mask"], -INF)
        made_of[which][..., 6, :] = 0
        weights = scores.softmax(-1)
        weights @ V
    assert trace[0].reason is None
    torch.testing.assert_close(trace[0].matrix.dense(), weights)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_inputs_of_products_that_are_written_later_are_noticed(which: int) -> None:
    inputs = [Q.clone(), K.clone(), V.clone()]
    with torch.no_grad(), sightline.trace(None) as trace:
        (inputs[0] @ inputs[1].mT).softmax(-1) @ inputs[2]
    inputs[which][0, 0, 6] = 0
    with pytest.raises(RuntimeError, match="changed in place after this matrix was made"):
        trace[0].matrix @ V


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_results_that_are_put_into_tensors_that_were_there(mode: type) -> None:
    with mode():
        q, k, v = (t.flatten(0, 1).clone() for t in (Q, K, V))
        buffer, context = torch.empty(B * H, N, N), torch.empty(B * H, N, D)
        kept = []
        with sightline.trace(None) as trace:
            for left, right in ((q, k), (k, q)):
                torch.bmm(left, right.mT, out=buffer)
                torch.mul(buffer, 0.3, out=buffer)
                torch.softmax(buffer, -1, out=buffer)
                torch.bmm(buffer, v, out=context)
                kept.append(buffer.clone())
    assert [call.how for call in trace] == ["softmax(q·kᵀ)·v"] * 2 and trace.unverified == []
    for call, weights in zip(trace, kept, strict=True):
        torch.testing.assert_close(call.matrix.dense()[0], weights)

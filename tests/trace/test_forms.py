"""Ways of writing attention down: the weights that are shown are those of the model, or a reason says why not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline

Pair = tuple[Tensor, Tensor]
#: Rows 0, 4, 8 and 12 of 13 are compared with the context: what happens elsewhere has to be followed.
B, H, N, D = 2, 4, 13, 8
Q, K, V = torch.randn(3, B, H, N, D, generator=torch.Generator().manual_seed(0))
BIAS = torch.randn(H, N, N, generator=torch.Generator().manual_seed(1))
ROWS = BIAS.flatten()[: H * 36].view(H, 3, 4, 3, 1)
COLUMNS = BIAS.flatten()[-H * 48 :].view(H, 3, 4, 1, 4)
SINKS = torch.randn(H, 1, 3, generator=torch.Generator().manual_seed(2))
LATER = torch.ones(N, N).triu(1).bool()
ONE_ROW = (torch.arange(N) == 6)[:, None]


def scores() -> Any:
    return Q @ K.mT / D**0.5


def ended(s: Tensor) -> Pair:
    weights = s.softmax(-1)
    return weights @ V, weights


# --- heads that share their keys -----------------------------------------------------------------------


def one_key_head() -> Pair:
    weights = (torch.einsum("bhid,bjd->bhij", Q, K[:, 0]) * 0.3).softmax(-1)
    return torch.einsum("bhij,bjd->bhid", weights, V[:, 0]), weights


def one_key_head_masked() -> Pair:
    s = (torch.einsum("bhid,bjd->bhij", Q, K[:, 0]) + BIAS).masked_fill(LATER, -math.inf)
    weights = s.softmax(-1)
    return torch.einsum("bhij,bjd->bhid", weights, V[:, 0]), weights


def one_key_head_of_all_entries() -> Pair:
    weights = torch.einsum("bhid,jd->bhij", Q, K[0, 0]).softmax(-1)
    return torch.einsum("bhij,jd->bhid", weights, V[0, 0]), weights


def one_key_head_sequence_first() -> Pair:
    weights = torch.einsum("bihd,bjd->bhij", Q.transpose(1, 2), K[:, 0]).softmax(-1)
    return torch.einsum("bhij,bjd->bihd", weights, V[:, 0]).transpose(1, 2), weights


def groups_by_einsum() -> Pair:
    s = torch.einsum("bgrid,bgjd->bgrij", Q.unflatten(1, (2, 2)), K[:, :2])
    weights = s.softmax(-1)
    return torch.einsum("bgrij,bgjd->bgrid", weights, V[:, :2]).flatten(1, 2), weights.flatten(1, 2)


def a_grid() -> Pair:
    q, k, v = (t[:, :, :12].unflatten(2, (3, 4)) for t in (Q, K, V))
    s = torch.einsum("bhxyd,bhuvd->bhxyuv", q, k)
    weights = s.flatten(-2).softmax(-1).view_as(s)
    context = torch.einsum("bhxyuv,bhuvd->bhxyd", weights, v)
    return context.flatten(2, 3), weights.flatten(4).flatten(2, 3)


def positions_of_a_grid() -> Pair:
    """Relative positions by row and by column, as SAM and MViT add them."""
    q, k, v = (t[:, :, :12] for t in (Q, K, V))
    s = (q @ k.mT).view(B, H, 3, 4, 3, 4) + ROWS + COLUMNS
    weights = s.view(B, H, 12, 12).softmax(-1)
    return weights @ v, weights


# --- sinks ---------------------------------------------------------------------------------------------


def sinks_in_front() -> Pair:
    s = torch.cat([SINKS[..., :1].expand(B, H, N, 1), scores()], -1)
    weights = s.softmax(-1)[..., 1:]
    return weights @ V, weights


def sinks_in_front_masked() -> Pair:
    s = torch.cat([SINKS[..., :1].expand(B, H, N, 1), scores()], -1)
    s = (s - s.amax(-1, keepdim=True)).masked_fill(F.pad(LATER, (1, 0)), -math.inf)
    weights = F.dropout(s.softmax(-1).narrow(-1, 1, N), 0.1, False)
    return weights @ V, weights


def sinks_behind_scaled_with_a_bias() -> Pair:
    s = torch.cat([Q @ K.mT, SINKS[..., :1].expand(B, H, N, 1)], -1) * 0.3 + F.pad(BIAS, (0, 1))
    weights = s.softmax(-1)[..., :-1]
    return weights @ V, weights


def several_sinks() -> Pair:
    weights = torch.cat([SINKS.expand(B, H, N, 3), scores()], -1).softmax(-1)[..., 3:]
    return weights @ V, weights


def nothing_to_look_at() -> Pair:
    weights = F.pad(scores(), (1, 0)).softmax(-1)[..., 1:]
    return weights @ V, weights


def one_more_in_the_sum() -> Pair:
    shares = (scores() - 1.0).exp()
    weights = shares / (1 + shares.sum(-1, keepdim=True))
    return weights @ V, weights


def sinks_of_each_row() -> Pair:
    s = torch.cat([Q @ K.mT, torch.where(ONE_ROW, 3.0, 0.0).expand(B, H, N, 1)], -1)
    weights = s.softmax(-1)[..., :-1]
    return weights @ V, weights


# --- other ways to the same ----------------------------------------------------------------------------


def exp_of_a_log_softmax() -> Pair:
    weights = scores().log_softmax(-1).exp()
    return weights @ V, weights


def less_their_logsumexp() -> Pair:
    s = scores()
    weights = (s - s.logsumexp(-1, keepdim=True)).exp()
    return weights @ V, weights


def rows_switched_off() -> Pair:
    weights = scores().softmax(-1).masked_fill(ONE_ROW, 0.0)
    return weights @ V, weights


def no_numbers_switched_off() -> Pair:
    s = scores().masked_fill(ONE_ROW, -math.inf)
    weights = s.softmax(-1).masked_fill(ONE_ROW, 0.0)
    return weights @ V, weights


FOLLOWED = [
    one_key_head, one_key_head_masked, one_key_head_of_all_entries, one_key_head_sequence_first,
    groups_by_einsum, a_grid, positions_of_a_grid, sinks_in_front, sinks_in_front_masked,
    sinks_behind_scaled_with_a_bias, several_sinks, nothing_to_look_at, exp_of_a_log_softmax,
    less_their_logsumexp, rows_switched_off, no_numbers_switched_off,
]  # fmt: skip
DENSE: list[Callable[[], Pair]] = [
    one_more_in_the_sum, sinks_of_each_row,
    lambda: ended(scores() * ~LATER - 1e9 * LATER),
    lambda: ended(torch.einsum("bhij,hg->bgij", scores(), SINKS[:, 0, :1] * torch.ones(H, H))),
    lambda: ended(F.dropout(scores(), 0.3, True)),
    lambda: ended(-torch.cdist(Q, K)),
    lambda: ended(scores().clamp(max=1.0)),
]  # fmt: skip


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("form", FOLLOWED + DENSE)
def test_the_weights_are_the_models(form: Callable[[], Pair], mode: type) -> None:
    with mode(), sightline.trace(None) as trace:
        _, weights = form()
    assert len(trace) == 1
    assert trace[0].reason is None
    assert trace[0].how == ("softmax(q·kᵀ)·v" if form in FOLLOWED else "softmax(scores)·v")
    torch.testing.assert_close(trace[0].matrix.dense(), weights)


def test_sinks_are_in_the_matrix() -> None:
    with torch.no_grad(), sightline.trace(None) as trace:
        sinks_in_front()
        several_sinks()
    torch.testing.assert_close(trace[0].matrix.problem.sinks, SINKS[:, 0, 0])
    torch.testing.assert_close(trace[1].matrix.problem.sinks, SINKS[:, 0].logsumexp(-1))


def test_keys_that_heads_share_are_kept_once() -> None:
    with torch.no_grad(), sightline.trace(None) as trace:
        one_key_head_masked()
    problem = trace[0].matrix.problem
    assert problem.value is not None
    assert problem.key.shape == problem.value.shape == (B, 1, N, D)


def test_one_step_with_one_key_head() -> None:
    """[B,H,1,J]: the heads are not taken for queries where the module knows its heads."""

    class Attention(nn.Module):
        heads = H

        def forward(self, query: Tensor) -> Any:
            weights = torch.einsum("bhid,bjd->bhij", query, K[:, 0]).softmax(-1)
            return torch.einsum("bhij,bjd->bhid", weights, V[:, 0])

    model = Attention()
    with torch.no_grad(), sightline.trace(model) as trace:
        model(Q[:, :, :1])
    assert trace[0].verified and trace[0].shape == (B, H, 1, N)


# --- what is not the model's own is said ---------------------------------------------------------------


def part_switched_off() -> Any:
    hidden = torch.zeros(N, N).bool()
    hidden[6, 3:5] = True
    return scores().softmax(-1).masked_fill(hidden, 0.0) @ V


def part_chosen() -> Any:
    hidden = torch.zeros(N, N).bool()
    hidden[6, 3:5] = True
    return torch.where(hidden, 0.0, scores().softmax(-1)) @ V


def one_weight_written() -> Any:
    weights = scores().softmax(-1)
    weights[1, 2, 6, 3] = 0.9
    return weights @ V


def mixed_heads() -> Any:
    return torch.einsum("bhij,hg->bgij", scores().softmax(-1), torch.randn(H, H)) @ V


def divided_by_something() -> Any:
    shares = scores().exp()
    return shares / (0.5 * shares.sum(-1, keepdim=True)) @ V


def divided_afterwards() -> Any:
    shares = scores().exp()
    return shares @ V / shares.sum(-1, keepdim=True)


def softmax_over_queries() -> Any:
    return scores().softmax(-2) @ V


REASONS: list[tuple[Callable[[], Any], str]] = [
    (part_switched_off, "differs from the model's context"),
    (part_chosen, "differs from the model's context"),
    (one_weight_written, "changed by aten"),
    (mixed_heads, "mixed with each other"),
    (divided_by_something, "not divided by their sums"),
    (divided_afterwards, "met the values before it was divided"),
    (softmax_over_queries, "summed along their queries"),
]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize(("form", "reason"), REASONS)
def test_other_weights_are_listed_with_a_reason(form: Callable[[], Any], reason: str, mode: type) -> None:
    with mode(), sightline.trace(None) as trace:
        form()
    assert reason in (trace[0].reason or "")


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_heads_that_layers_mix(before: bool, after: bool) -> None:
    """Talking heads: mixed before the softmax they are what they are, behind it the matrix is not the model's."""

    class Talking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(H, H, 1), nn.Parameter(torch.randn(H, H))

        def forward(self, query: Tensor) -> Any:
            s = query @ K.mT
            weights = (self.first(s) if before else s).softmax(-1)
            return (torch.einsum("bhij,hg->bgij", weights, self.second) if after else weights) @ V

    model = Talking().eval()
    with torch.no_grad(), sightline.trace(model) as trace:
        model(Q)
    assert len(trace) == 1 and trace[0].shape == (B, H, N, N)
    assert trace[0].reason == ("the weights were mixed by a layer after the softmax" if after else None)

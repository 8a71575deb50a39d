"""Attention in the forms in which programs write it: one edge blocked, against the same form with a mask."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import sightline

VISIBLE = torch.ones(4, 1, 6, dtype=torch.bool)
VISIBLE[1, :, 2] = False
SDPA = F.scaled_dot_product_attention
Form = Callable[..., Tensor]


def random(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def hidden(scores: Tensor) -> Tensor:
    return scores.masked_fill(~VISIBLE, -torch.inf).softmax(-1)


def written_in_place(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    scores = (query @ key.mT) * 0.3 + 0
    scores[..., 1:] += bias[..., 1:]
    return scores.softmax(-1) @ value


def by_baddbmm(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    flat = bias.expand(2, -1, -1, -1).reshape(8, 6, 6)
    scores = torch.baddbmm(flat, query.flatten(0, 1), key.flatten(0, 1).mT, alpha=0.3)
    return scores.view(2, 4, 6, 6).softmax(-1) @ value


FOUR = [(2, 4, 6, 8)] * 3
BIASED = [*FOUR, (1, 4, 6, 6)]
GROUPED = [(2, 4, 6, 8), (2, 2, 6, 8), (2, 2, 6, 8)]
# What runs, the same with the edge masked, and what they take.
FORMS: dict[str, tuple[Form, Form, list[tuple[int, ...]]]] = {
    "grouped heads": (
        lambda q, k, v: SDPA(q, k, v, enable_gqa=True),
        lambda q, k, v: SDPA(q, k, v, enable_gqa=True, attn_mask=VISIBLE),
        GROUPED,
    ),
    "three axes": (
        SDPA,
        lambda q, k, v: SDPA(q[None], k[None], v[None], attn_mask=VISIBLE)[0],
        [(4, 6, 8)] * 3,
    ),
    "five axes": (SDPA, lambda q, k, v: SDPA(q, k, v, attn_mask=VISIBLE), [(2, 3, 4, 6, 8)] * 3),
    "a learnt mask": (
        lambda q, k, v, b: SDPA(q, k, v, attn_mask=b),
        lambda q, k, v, b: SDPA(q, k, v, attn_mask=b.masked_fill(~VISIBLE, -torch.inf)),
        BIASED,
    ),
    "our own": (
        lambda q, k, v, b: sightline.attention(q, k, v, bias=b, softcap=2.0),
        lambda q, k, v, b: sightline.attention(q, k, v, bias=b, softcap=2.0, mask=VISIBLE),
        BIASED,
    ),
    "ALiBi": (
        lambda q, k, v, s: sightline.attention(q, k, v, bias=sightline.alibi(s)),
        lambda q, k, v, s: sightline.attention(q, k, v, bias=sightline.alibi(s), mask=VISIBLE),
        [*FOUR, (4,)],
    ),
    "a learnt bias": (
        lambda q, k, v, b: (q @ k.mT * 0.3 + b).softmax(-1) @ v,
        lambda q, k, v, b: hidden(q @ k.mT * 0.3 + b) @ v,
        BIASED,
    ),
    "a bias written in place": (
        written_in_place,
        lambda q, k, v, b: hidden(q @ k.mT * 0.3 + torch.cat((b[..., :1] * 0, b[..., 1:]), -1)) @ v,
        BIASED,
    ),
    "baddbmm": (by_baddbmm, lambda q, k, v, b: hidden(q @ k.mT * 0.3 + b) @ v, BIASED),
    "distances": (
        lambda q, k, v: (-torch.cdist(q, k)).softmax(-1) @ v,
        lambda q, k, v: hidden(-torch.cdist(q, k)) @ v,
        FOUR,
    ),
    "a temperature for each head": (
        lambda q, k, v, s: (q @ k.mT * s[:, None, None]).softmax(-1) @ v,
        lambda q, k, v, s: hidden(q @ k.mT * s[:, None, None]) @ v,
        [*FOUR, (4,)],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_contexts_and_gradients(form: str) -> None:
    function, masked, shapes = FORMS[form]
    given = random(*shapes)
    with sightline.intervene(None) as change:
        change.block(head=1, keys=2)
        found = function(*given)
    expected = masked(*given)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(one.sin().sum(), given) for one in (found, expected)]
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def test_what_sdpa_override_runs() -> None:
    query, key, value = (tensor.detach().float() for tensor in random(*FOUR))
    with sightline.sdpa_override(), sightline.intervene(None) as change:
        change.block(head=1, keys=2)
        found = SDPA(query, key, value)
    torch.testing.assert_close(found, SDPA(query, key, value, attn_mask=VISIBLE))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    query, key, value = (tensor.detach().to(dtype) for tensor in random(*FOUR))
    with sightline.intervene(None) as change:
        change.block(head=1, keys=2)
        change.scale(head=3, queries=[1, 2], keys=[0, 5], by=3.0)
        found = SDPA(query, key, value)
    scores = (query.double() @ key.double().mT / 8**0.5).masked_fill(~VISIBLE, -torch.inf)
    factors = torch.ones(4, 6, 6, dtype=torch.float64)
    factors[3, 1:3, [0, 5]] = 3.0
    weights = scores.softmax(-1) * factors
    expected = weights / weights.sum(-1, keepdim=True) @ value.double()
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=0.02)


def heads_in_a_row(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return ((query @ key.mT) * 0.3).softmax(-1) @ value


@pytest.mark.parametrize("how", ["block", "scale", "ablate", "mean", "uniform", "replace"])
def test_heads_that_nobody_touches_keep_their_bits(how: str) -> None:
    query, key, value = torch.randn(3, 2, 4, 6, 8)
    with torch.no_grad():
        plain = heads_in_a_row(query, key, value)
        with sightline.intervene(None) as change:
            if how == "block":
                change.block(head=[1, 3], keys=[2])
            elif how == "scale":
                change.scale(head=[1, 3], keys=[2], by=0.5)
            elif how == "replace":
                change.replace(head=[1, 3], weights=torch.full((6, 6), 1 / 6))
            else:
                change.ablate(head=[1, 3], how="zero" if how == "ablate" else how)
            with sightline.trace(None) as trace:
                found = heads_in_a_row(query, key, value)
    assert torch.equal(found[:, [0, 2]], plain[:, [0, 2]])
    assert not torch.isclose(found[:, [1, 3]], plain[:, [1, 3]]).all(-1).any(-1).any()
    weights = trace[0].matrix.dense() @ value
    torch.testing.assert_close(found, weights, atol=1e-5, rtol=1e-4)
    assert trace[0].verified

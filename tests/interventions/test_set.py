"""Weights that are given: in attention of every form, against the weights as they were, written out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import sightline


def given(weights: Tensor, row: int, keys: list[int], to: float) -> Tensor:
    """The weights in which these keys get ``to`` of a row, and all others, a sink among them, the rest."""
    after = weights.clone()
    own = weights[..., row, keys].sum(-1, keepdim=True)
    after[..., row, :] *= (1 - to) / (1 - own)
    after[..., row, keys] = weights[..., row, keys] * to / own
    return after


FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "a window": {"mask": sightline.window(3, 3)},
    "a soft cap": {"softcap": 2.0},
    "sinks": {"sinks": torch.tensor([0.5, -1.0, 0.0, 2.0])},
    "ALiBi": {"bias": sightline.alibi(torch.tensor([0.5, 0.25, 0.1, 0.05]))},
    "a bias": {"bias": torch.linspace(-1, 1, 30 * 30).view(1, 1, 30, 30)},
}


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_weights_are_given_in_every_form(form: str, grouped: bool) -> None:
    query, value = torch.randn(2, 4, 30, 8), torch.randn(2, 2 if grouped else 4, 30, 8)
    key = torch.randn_like(value)
    whole = value.repeat_interleave(2, 1) if grouped else value
    _, before = sightline.attention(query, key, value, return_matrix=True, **FORMS[form])
    expected = given(before.dense(), 10, [8, 11], 0.8)
    with sightline.intervene(None) as change:
        change.set(queries=10, keys=[8, 11], to=0.8)
        with sightline.trace(None) as trace:
            context = sightline.attention(query, key, value, **FORMS[form])
    torch.testing.assert_close(context, expected @ whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(trace[0].matrix.dense(), expected, rtol=1e-4, atol=1e-6)


def test_it_is_the_weight_as_earlier_changes_left_it() -> None:
    query, key, value = (torch.randn(1, 1, 6, 8) for _ in range(3))
    with sightline.intervene(None) as change:
        change.block(queries=3, keys=[0])
        change.set(queries=3, keys=2, to=0.5)
        change.scale(queries=3, keys=[2], by=3.0)
        with sightline.trace(None) as trace:
            sightline.attention(query, key, value)
    row = trace[0].matrix[0, 0, 3]
    assert row[0] == 0
    assert row[2].item() == pytest.approx(0.75, abs=1e-5)  # 1.5 of 2
    assert row.sum().item() == pytest.approx(1.0, abs=1e-5)


def test_a_key_that_no_query_sees_is_refused() -> None:
    query, key, value = (torch.randn(1, 2, 6, 8) for _ in range(3))

    def run() -> None:
        with sightline.intervene(None) as change:
            change.set(queries=2, keys=[4], to=0.5)
            sightline.attention(query, key, value, mask=sightline.causal())

    with pytest.raises(ValueError, match="none of these queries may look at any of these keys"):
        run()


def test_half_precision_is_close() -> None:
    query, key, value = (torch.randn(1, 2, 6, 8).bfloat16() for _ in range(3))
    with sightline.intervene(None) as change, sightline.trace(None) as trace:
        change.set(queries=2, keys=[4], to=0.5)
        sightline.attention(query, key, value)
    assert trace[0].matrix[0, :, 2, 4].float().sub(0.5).abs().max() < 0.02

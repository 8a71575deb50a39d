"""Rows in which one weight is 1: the gradients of their queries and keys are 0, not the noise of two sums."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import make_tensor

import sightline
from cases import Case

NAMES = ("context", "query", "key", "value")


def saturated(n: int, m: int, width: int, value_width: int, dtype: torch.dtype) -> Case:
    """Each query points at one key, far more than at any other."""
    target = torch.randint(0, m, (1, 2, n))
    codes = torch.nn.functional.one_hot(torch.arange(m), max(m, width)).float()[:, : max(m, width)]
    key = codes.expand(1, 2, -1, -1) * 40
    query = key.gather(2, target[..., None].expand(-1, -1, -1, key.shape[3]))
    value = torch.randn(1, 2, m, value_width) * 9
    return Case(query.to(dtype), key.to(dtype), value.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n, m, value_width", [(5, 7, 3), (70, 33, 64), (64, 64, 17), (1, 129, 40)])
def test_one_weight_of_1_sends_no_gradient_to_scores(wing, dtype, n, m, value_width):
    case = saturated(n, m, 8, value_width, dtype)
    leaves = [x.requires_grad_() for x in (case.query, case.key, case.value)]
    context = sightline.attention(*leaves)
    upstream = torch.randn(context.shape).to(dtype)
    of_query, of_key, of_value = torch.autograd.grad(context, leaves, upstream)
    assert of_query.abs().max() == 0 and of_key.abs().max() == 0
    assert of_value.abs().max() > 0


def samples() -> list[tuple[list[Tensor], dict[str, Any]]]:
    """The shapes and sizes that PyTorch tests its own scaled_dot_product_attention with: numbers up to 9."""
    make = partial(make_tensor, device="cpu", dtype=torch.float32)
    shapes = [((4, 3, 8), (4, 6, 8)), ((4, 4, 3, 8), (4, 4, 6, 8)), ((4, 3, 8), (4, 4, 6, 8))]
    found: list[tuple[list[Tensor], dict[str, Any]]] = [
        ([make(of_query), make(of_key), make(of_key)], {"is_causal": causal})
        for of_query, of_key in shapes
        for causal in (True, False) * 2
    ]
    return [*found, ([make(shape) for shape in (*shapes[1], shapes[1][1])], {"attn_mask": make((3, 6))})]


def results(inputs: list[Tensor], arguments: dict[str, Any], upstream: Tensor) -> list[Tensor]:
    """Context and gradients of what stands for PyTorch's function now."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    context = torch.nn.functional.scaled_dot_product_attention(*leaves, **arguments)
    return [context.detach(), *torch.autograd.grad(context, leaves, upstream)]


def test_gradients_on_pytorchs_own_samples_are_as_exact_as_its_own(wing):
    """Twice its own error, but for half of what rounding a single logit of 60 does to a weight."""
    for inputs, arguments in samples():
        upstream = torch.randn((*torch.broadcast_shapes(*(x.shape[:-2] for x in inputs)), 3, 8))
        precise = {name: x.double() if isinstance(x, Tensor) else x for name, x in arguments.items()}
        wanted = results([x.double() for x in inputs], precise, upstream.double())
        theirs = results(inputs, arguments, upstream)
        with sightline.sdpa_override():
            ours = results(inputs, arguments, upstream)
        for name, mine, other, exact in zip(NAMES, ours, theirs, wanted, strict=True):
            error, allowed = ((x.double() - exact).abs().max() for x in (mine, other))
            known = 2e-6 * exact.abs().max()
            assert error <= 2 * allowed + known, (name, float(error), float(allowed), arguments)

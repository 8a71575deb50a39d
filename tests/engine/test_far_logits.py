"""Logits far from 0, where an ulp of float32 is large: weights still agree with one another and with the context.

Every float32 softmax of such logits is a little off (an ulp of -10000 is 1e-3), and which way depends on the
order in which products are added up. What must not happen is that one row is read in two ways.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import sightline

FLOAT_MIN = torch.finfo(torch.float32).min


def hidden_rows(n: int, number: float) -> Tensor:
    """A bias that hides every key from each third query by a number instead of -inf, as padding often is."""
    bias = torch.zeros(1, 1, n, n + 3)
    bias[:, :, ::3] = number
    return bias


def far_cases() -> dict[str, dict[str, Tensor]]:
    found = {f"bias {number:g}": {"number": torch.tensor(number)} for number in (-1e4, -12345.6, -1e6)}
    return found | {f"inputs times {by}": {"by": torch.tensor(float(by))} for by in (5, 30)}


@pytest.mark.parametrize("n", [2, 40])  # few queries decode
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", far_cases().values(), ids=far_cases().keys())
def test_every_way_to_read_a_row_agrees(wing, n, dtype, case):
    q, k, v = (torch.randn(1, 2, length, 16) for length in (n, n + 3, n + 3))
    by = case.get("by", torch.tensor(1.0))
    inputs = [(x * by).to(dtype).requires_grad_() for x in (q, k, v)]
    bias = hidden_rows(n, float(case["number"])) if "number" in case else None
    context, A = sightline.attention(*inputs, bias=bias, return_matrix=True)
    dense, m = A.block().weights, n + 3  # float32 throughout
    torch.testing.assert_close(A.dense(), dense.to(dtype), rtol=0, atol=0)
    sums = torch.ones(1, 2, n)
    torch.testing.assert_close(dense.sum(-1), sums, rtol=0, atol=2e-6)
    torch.testing.assert_close(A.topk(m).values.sum(-1), sums, rtol=0, atol=2e-6)
    torch.testing.assert_close(A.received().sum(-1), torch.full((1, 2), float(n)), rtol=0, atol=2e-6 * n)
    torch.testing.assert_close(
        torch.cat([A.part(cols=slice(2)), A.part(cols=slice(2, m))], -1), dense, rtol=0, atol=5e-6
    )
    torch.testing.assert_close(
        torch.stack([A.gather(torch.full((n,), key)) for key in range(m)], -1), dense, rtol=0.03, atol=0
    )
    # A gradient of all ones: what each key receives is its gradient of the value.
    (of_value,) = torch.autograd.grad(context.sum(), inputs[2])
    rounding = 4 * torch.finfo(dtype).eps * n
    torch.testing.assert_close(
        of_value[..., 0].sum(-1).float(), torch.full((1, 2), float(n)), rtol=0, atol=rounding
    )


@pytest.mark.parametrize("n", [2, 40])
@pytest.mark.parametrize("number", [-1e9, -1.23e9, -1e30, -3e38, FLOAT_MIN])
def test_a_row_of_large_negative_biases_looks_at_all_of_them_alike(wing, number, n):
    """As PyTorch's softmax does, where a score is lost in its bias."""
    q, k, v = (torch.randn(1, 2, length, 16, requires_grad=True) for length in (n, n + 3, n + 3))
    bias = hidden_rows(n, number)
    context, A = sightline.attention(q, k, v, bias=bias, return_matrix=True)
    m = n + 3
    weights = torch.softmax(q @ k.mT / 4 + bias, -1)
    rows = slice(None, None, 3)
    assert weights[:, :, rows].sub(1 / m).abs().max() < 1e-6
    close = torch.testing.assert_close
    close(context, weights @ v, rtol=0, atol=2e-6)
    for found in (A.dense(), A[...], A.block().weights):
        close(found, weights, rtol=0, atol=2e-6)
    close(A.received(), weights.sum(2), rtol=0, atol=1e-5)
    close(A.topk(m).values, weights.topk(m).values, rtol=0, atol=2e-6)
    close(A.entropy()[:, :, rows], torch.full_like(A.lse[:, :, rows], math.log(m)), rtol=0, atol=5e-6)
    close(A.gather(torch.ones(n, dtype=torch.long)), weights[..., 1], rtol=0, atol=2e-6)
    close(
        A.lse[:, :, rows],
        torch.full_like(A.lse[:, :, rows], number),
        rtol=1e-6 if number != -3e38 else 0.2,
        atol=0,
    )
    upstream = torch.randn_like(context)
    for found, wanted in zip(
        torch.autograd.grad(context, (q, k, v), upstream),
        torch.autograd.grad(weights @ v, (q, k, v), upstream),
        strict=True,
    ):
        # A score that is lost in its bias has no gradient worth the name; neither moves its row.
        close(found, wanted, rtol=0, atol=1e-5)


def test_a_trace_file_keeps_rows_far_from_0(tmp_path):
    q, k, v = (torch.randn(1, 2, 9, 16) * 20 for _ in range(3))
    layer = torch.nn.Identity()
    layer.forward = lambda: sightline.attention(q, k, v)
    with sightline.trace(layer) as trace:
        layer()
    trace.save(tmp_path / "trace.safetensors")
    loaded = sightline.load_trace(tmp_path / "trace.safetensors")
    assert torch.equal(loaded[0].matrix.exact_lse, trace[0].matrix.exact_lse)
    assert torch.equal(loaded[0].matrix.received(), trace[0].matrix.received())


@pytest.mark.parametrize("reduce", ["sum", "max", "mean"])
@pytest.mark.parametrize("shift", [-40.0, 40.0, -1e6])
@pytest.mark.parametrize("queries", [1, 4, 70])
def test_a_part_of_the_keys_keeps_the_lse_of_all(queries, shift, reduce):
    """The picture of some columns is that part of the whole picture, however far the logits are from 0."""
    torch.manual_seed(0)
    query, key = torch.randn(1, 2, queries, 8), torch.randn(1, 2, 64, 8)
    bias = torch.full((1, 1, 1, 64), shift)
    A = sightline.AttentionMatrix(query, key, bias=bias, mask=sightline.lengths([50]))
    rows, cols = slice(0, min(queries, 3)), slice(5, 12)
    found = A.pool(rows.stop, 7, rows, cols, reduce)
    rounding = 2.0**-23 * abs(shift)  # of a logit, and so of a weight's share
    torch.testing.assert_close(found, A.dense()[:, :, rows, cols], atol=2e-6, rtol=2e-5 + rounding)
    assert float(A.pool(1, 1, rows, cols, "sum").max()) < 0.9 * rows.stop

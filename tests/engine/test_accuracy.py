"""Errors against float64, held against PyTorch's own in the same dtype, and against an absolute bound."""

import pytest
import torch
import torch.nn.functional as F

import sightline
from sightline.core import library


def errors(found, wanted):
    difference = found.double() - wanted
    return difference.abs().max().item(), (difference.norm() / wanted.norm()).item()


def compare(n, d, causal, stretch, dtype=torch.float32):
    # Signed normals: all-positive inputs hide errors. Two heads and few queries keep float64 cheap.
    q, k, v = torch.randn(3, 1, 2, n, d).unbind(0)
    q, k, v = (x.to(dtype) for x in (q * stretch, k, v))
    mask = sightline.causal() if causal else None
    wanted = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=causal)
    theirs = errors(F.scaled_dot_product_attention(q, k, v, is_causal=causal), wanted)
    with sightline.backend("cpu"):
        ours = errors(sightline.attention(q, k, v, mask=mask), wanted)
    for found, allowed in zip(ours, theirs, strict=True):
        assert found <= 2 * allowed, (ours, theirs)
    assert ours[1] < BOUND[dtype] * (max(1, stretch) if dtype == torch.float32 else 1)


LEVELS = library.levels() if library.available() is None else []
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
# Relative, over the whole context.
BOUND = {torch.float32: 1e-6, torch.bfloat16: 5e-3, torch.float16: 5e-4}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("stretch", [1, 20])
@pytest.mark.parametrize("n, d", [(64, 64), (1024, 64), (1000, 128)])
def test_float32_forward(level, causal, stretch, n, d, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    compare(n, d, causal, stretch)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("stretch", [1, 20])
def test_half_forward(level, dtype, causal, stretch, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    compare(600, 64, causal, stretch, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("stretch", [1, 20])
@pytest.mark.parametrize("n", [4096, 16384])
def test_forward_of_long_sequences(dtype, causal, stretch, n):
    compare(n, 64, causal, stretch, dtype)


def gradients(attend, inputs, upstream):
    leaves = [x.detach().requires_grad_() for x in inputs]
    return torch.autograd.grad(attend(*leaves), leaves, upstream)


@pytest.mark.parametrize("level", library.levels() if library.available() is None else [])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("n, d", [(64, 64), (1024, 64), (1000, 128)])
def test_gradients(level, causal, dtype, n, d, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_ISA", level)
    inputs = torch.randn(3, 1, 2, n, d).to(dtype).unbind(0)
    upstream = torch.randn(1, 2, n, d).to(dtype)
    mask = sightline.causal() if causal else None

    def theirs(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

    wanted = gradients(theirs, [x.double() for x in inputs], upstream.double())
    expected = gradients(theirs, inputs, upstream)
    with sightline.backend("cpu"):
        found = gradients(lambda q, k, v: sightline.attention(q, k, v, mask=mask), inputs, upstream)
    for ours, reference, exact in zip(found, expected, wanted, strict=True):
        for error, allowed in zip(errors(ours, exact), errors(reference, exact), strict=True):
            assert error <= 2 * allowed, (errors(ours, exact), errors(reference, exact))

"""The cases that PyTorch tries its own context parallelism on, and some that it refuses, beside its attention.

Shapes and masks of ``test/distributed/tensor/test_attention.py`` (PyTorch 2.13): 8 entries of 8 heads of width
32, causal or not, with and without balanced order, each way of exchange, forward alone and with gradients; packed
documents; a Transformer of PyTorch's own layers. The sequence is shorter in the default tests.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional

import sightline
from sightline import distributed


def check(
    group: Any,
    shape: tuple[int, int, int, int],
    groups: int,
    causal: bool,
    order: str,
    how: str,
    dtype: torch.dtype,
) -> None:
    """Contexts and gradients are as near to float64 as those of scaled_dot_product_attention on the whole."""
    b, h, n, d = shape
    torch.manual_seed(0)
    whole = [torch.rand(b, heads, n, d).to(dtype) for heads in (h, groups, groups)]
    exact, pytorch = (
        computed(
            lambda *one: functional.scaled_dot_product_attention(
                *one, is_causal=causal, enable_gqa=groups != h
            ),
            [one.to(kind) for one in whole],
        )
        for kind in (torch.float64, dtype)
    )
    mask = sightline.causal() if causal else None
    with distributed.context_parallel(group, order=order, how=how, timeout=300):
        own = [distributed.shard(one, 2).clone() for one in whole]
        with torch.no_grad():
            alone = sightline.attention(*own, mask=mask)
        found = computed(lambda *one: sightline.attention(*one, mask=mask), own)
        assert alone.equal(found[0])
        check_near(found, pytorch, exact, dtype)


def check_near(
    found: list[torch.Tensor], pytorch: list[torch.Tensor], exact: list[torch.Tensor], dtype: torch.dtype
) -> None:
    """This process's parts are as near to float64 as PyTorch's on the whole, give or take some roundings."""
    for name, mine, theirs, right in zip(
        ("context", "query", "key", "value"), found, pytorch, exact, strict=True
    ):
        size, theirs = right.abs().max(), (theirs - right).abs().max()
        error = (mine - distributed.shard(right, 2)).abs().max()
        close = 4 * theirs + 16 * torch.finfo(dtype).eps * size
        assert mine.dtype == dtype and error <= close, (name, error, theirs)


def computed(attend: Any, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The context, and the gradients of its sum."""
    leaves = [one.detach().requires_grad_() for one in tensors]
    context = attend(*leaves)
    context.sum().backward()
    return [context.detach(), *(one.grad for one in leaves)]


@pytest.mark.parametrize("causal, order, how", [(True, "zigzag", "ring"), (False, "contiguous", "heads")])
def test_attention(pool, causal, order, how):
    pool.run(check, (2, 8, 64, 32), 8, causal, order, how, torch.float32, count=2)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", [8, 2])
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("how", ["ring", "heads"])
@pytest.mark.parametrize("order", ["contiguous", "zigzag"])
@pytest.mark.parametrize("causal", [True, False])
def test_attention_of_all_kinds(pool, causal, order, how, count, groups, dtype):
    pool.run(check, (8, 8, 128 * count, 32), groups, causal, order, how, dtype, count=count)


def documents_of(batch: int, length: int) -> torch.Tensor:
    """[B,N], other lengths in each entry, one of them a single document, one of length 1."""
    torch.manual_seed(1)
    cuts = torch.rand(batch, length) < 6 / length
    cuts[0] = False
    cuts[-1, 1] = True
    return cuts.long().cumsum(1)


def check_documents(group: Any, shape: tuple[int, int, int, int], order: str) -> None:
    """What PyTorch takes FlexAttention for: causal attention within packed documents."""
    b, h, n, d = shape
    texts = documents_of(b, n)
    torch.manual_seed(0)
    whole = [torch.rand(shape) for _ in range(3)]
    seen = (texts[:, :, None] == texts[:, None]) & torch.ones(n, n, dtype=torch.bool).tril()
    exact, pytorch = (
        computed(
            lambda *one: functional.scaled_dot_product_attention(*one, attn_mask=seen[:, None]),
            [one.to(kind) for one in whole],
        )
        for kind in (torch.float64, torch.float32)
    )
    with distributed.context_parallel(group, order=order, timeout=300):
        own = [distributed.shard(one, 2).clone() for one in whole]
        mask = sightline.documents(texts) & sightline.causal()
        found = computed(lambda *one: sightline.attention(*one, mask=mask), own)
        check_near(found, pytorch, exact, torch.float32)


def test_documents(pool):
    pool.run(check_documents, (3, 2, 61, 16), "zigzag", count=2)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["contiguous", "zigzag"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_long_documents(pool, count, order):
    pool.run(check_documents, (4, 2, 256 * count, 32), order, count=count)


class Block(nn.Module):
    """A layer that calls PyTorch's attention, with causal weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inside, self.outside = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm, self.mlp = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, c = x.shape
        parts = self.inside(self.norm(x)).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        context = functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.outside(context.transpose(1, 2).flatten(2))
        return x + self.mlp(x).relu()


def check_transformer(group: Any, order: str) -> None:
    """Another's Transformer, whose calls of PyTorch's attention are taken over: outputs and all gradients."""
    torch.manual_seed(0)
    model = nn.Sequential(*(Block(16, 4) for _ in range(2))).double()
    x = torch.rand(2, 19, 16, dtype=torch.float64)
    wanted = model(x)
    wanted.sum().backward()
    right = [one.grad.clone() for one in model.parameters()]
    model.zero_grad()
    with distributed.context_parallel(group, order=order, timeout=300), sightline.sdpa_override():
        found = model(distributed.shard(x, 1))
        found.sum().backward()
        distributed.sum_gradients(model.parameters())
        torch.testing.assert_close(found, distributed.shard(wanted, 1), atol=1e-12, rtol=1e-12)
    for one, grad in zip(model.parameters(), right, strict=True):
        torch.testing.assert_close(one.grad, grad, atol=1e-11, rtol=1e-11)


def test_a_transformer_of_pytorch(pool):
    pool.run(check_transformer, "zigzag", count=2)


def check_shards(group: Any) -> None:
    """Cut in order or balanced, and put together again; lengths that do not divide, and several axes."""
    rank, count = dist.get_rank(group), dist.get_world_size(group)
    x = torch.arange(2 * 16 * 3).view(2, 16, 3)
    with distributed.context_parallel(group, order="contiguous", timeout=300):
        each = 16 // count
        assert distributed.shard(x, 1).equal(x[:, rank * each : (rank + 1) * each])
        assert distributed.unshard(distributed.shard(x, -2), -2).equal(x)
    with distributed.context_parallel(group, order="zigzag", timeout=300):
        each = 16 // (2 * count)
        front, back = (x[:, at * each : (at + 1) * each] for at in (rank, 2 * count - 1 - rank))
        assert distributed.shard(x, 1).equal(torch.cat([front, back], 1))
        assert distributed.unshard(distributed.shard(x[:, :13], 1), 1).equal(x[:, :13])


def test_shards(pool):
    pool.run(check_shards, count=4)

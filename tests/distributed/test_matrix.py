"""The matrix of several processes is that of one: rows and keys of each, parts and pictures in all."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

import sightline
from distributed.problems import NAMES, whole
from sightline import distributed, measure
from sightline.distributed.layout import layout_of, lengths_of

CLOSE = {"atol": 1e-12, "rtol": 1e-12, "equal_nan": True}


def check(group: Any, name: str, n: int, m: int, order: str) -> None:
    rank, count = dist.get_rank(group), dist.get_world_size(group)
    queries, keys = (layout_of(lengths_of(size, count, order), order) for size in (n, m))
    query, key, value, options, _ = whole(name, n, m)
    _, alone = sightline.attention(query, key, value, **options, return_matrix=True)
    own = queries.own(query, 2, rank), keys.own(key, 2, rank), keys.own(value, 2, rank)
    places = queries.positions(rank, query.device), keys.positions(rank, query.device)
    with distributed.context_parallel(group, order=order, timeout=60):
        _, matrix = sightline.attention(*own, **options, return_matrix=True)
    assert isinstance(matrix, sightline.AttentionMatrix) and matrix.shape == alone.shape
    assert matrix.positions.equal(places[0]) and matrix.key_positions.equal(places[1])
    check_readouts(alone, matrix, *places)
    check_products(alone, matrix, *places)
    check_parts(alone, matrix)
    if n == m:
        check_rollout(alone, matrix, places[1])


def check_rollout(alone: Any, matrix: Any, keys: Any) -> None:
    for how in ({}, {"residual": 0.0}, {"residual": 0.3, "normalize": False}):
        wanted = measure.rollout([alone, alone], [1, -1], **how)
        torch.testing.assert_close(
            distributed.rollout([matrix] * 2, [1, -1], **how), wanted[..., keys], **CLOSE
        )
    with pytest.raises(ValueError, match="targets: 13 is out of range for N=13 positions"):
        distributed.rollout(matrix, 13)
    with pytest.raises(TypeError, match="matrices of several processes, got"):
        distributed.rollout([alone], 0)


def check_readouts(alone: Any, matrix: Any, rows: Any, keys: Any) -> None:
    m = alone.shape[3]
    segments = torch.arange(m) * 3 // m
    asked = {"topk": min(4, m), "segments": segments, "align": "top-left"}
    names = ("entropy", "received", "max", "max_score", "distance")
    wanted, found = (one.readouts(*names, **asked) for one in (alone, matrix))
    torch.testing.assert_close(matrix.lse, alone.lse[:, :, rows], **CLOSE)
    for name in ("entropy", "max_score", "distance", "mass"):
        torch.testing.assert_close(
            getattr(found, name),
            getattr(wanted, name)[:, :, rows],
            **CLOSE,
            msg=lambda t, name=name: name + t,
        )
    torch.testing.assert_close(found.received, wanted.received[:, :, keys], **CLOSE)
    for name in ("max", "topk"):
        values, indices = getattr(wanted, name)
        torch.testing.assert_close(getattr(found, name).values, values[:, :, rows], **CLOSE)
        assert getattr(found, name).indices.equal(indices[:, :, rows]), name
    assert matrix.entropy().equal(found.entropy) and matrix.received().equal(found.received)


def check_products(alone: Any, matrix: Any, rows: Any, keys: Any) -> None:
    b, h, n, m = alone.shape
    torch.manual_seed(5)
    for lead in ((), (h,), (b, h)):
        x, y = torch.randn(*lead, m, 3, dtype=torch.float64), torch.randn(*lead, n, 3, dtype=torch.float64)
        torch.testing.assert_close(matrix @ x[..., keys, :], (alone @ x)[:, :, rows], **CLOSE)
        torch.testing.assert_close(matrix.T @ y[..., rows, :], (alone.T @ y)[:, :, keys], **CLOSE)
    one = torch.randn(n, dtype=torch.float64)
    torch.testing.assert_close(one[rows] @ matrix, (one @ alone)[:, :, keys], **CLOSE)


def check_parts(alone: Any, matrix: Any) -> None:
    _, _, n, m = alone.shape
    dense = alone.dense()
    torch.testing.assert_close(matrix.dense(), dense, **CLOSE)
    torch.testing.assert_close(matrix[1, 2, n // 2], dense[1, 2, n // 2], **CLOSE)
    torch.testing.assert_close(
        matrix[:, 1:3][..., 1::3, : m - 1 : 2], dense[:, 1:3, 1::3, : m - 1 : 2], **CLOSE
    )
    torch.testing.assert_close(matrix[0, [3, 0], [n - 1, 0]], dense[0, [3, 0], [n - 1, 0]], **CLOSE)
    torch.testing.assert_close(matrix[..., m - 1], dense[..., m - 1], **CLOSE)
    for reduce in ("mean", "max", "sum"):
        for asked in ((3, 4), (n + 2, 2, slice(1, n - 1), slice(2, m))):
            torch.testing.assert_close(
                matrix.pool(*asked, reduce=reduce), alone.pool(*asked, reduce=reduce), **CLOSE
            )
    assert matrix[1].entropy().shape == (4, len(matrix.positions))


@pytest.mark.parametrize("name, count, order", [("sinks", 2, "zigzag"), ("relative", 3, "contiguous")])
def test_what_is_read(pool, name, count, order):
    pool.run(check, name, 13, 13, order, count=count)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["contiguous", "zigzag"])
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "dropout"])
def test_all_of_them_everywhere(pool, name, count, order):
    for n, m in ((13, 13), (7, 29), (31, 11)):
        pool.run(check, name, n, m, order, count=count)

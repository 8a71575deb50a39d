"""Dropout: seeded by PyTorch's generator, reproducible, unbiased, and gone from the matrix."""

import torch

import sightline
from sightline.backends import schedule


def one_hot_values(n):
    return torch.randn(1, 2, n, 4), torch.randn(1, 2, n, 4), torch.eye(n).expand(1, 2, n, n)


def dropped(q, k, v, rate, seed=0):
    torch.manual_seed(seed)
    return sightline.attention(q, k, v, dropout=rate)


def test_the_seed_decides():
    q, k, v = one_hot_values(40)
    assert torch.equal(dropped(q, k, v, 0.5), dropped(q, k, v, 0.5))
    assert not torch.equal(dropped(q, k, v, 0.5), dropped(q, k, v, 0.5, seed=1))


def test_kept_weights_are_scaled_and_the_rest_is_zero():
    q, k, v = one_hot_values(60)
    weights = sightline.AttentionMatrix(q, k).dense()
    ratio = dropped(q, k, v, 0.25) / weights
    kept = ratio > 0.5
    torch.testing.assert_close(ratio[kept], torch.full_like(ratio[kept], 1 / 0.75))
    assert (ratio[~kept] == 0).all()
    assert abs(kept.float().mean() - 0.75) < 0.02


def test_the_mean_is_unbiased():
    q, k, v = torch.randn(1, 2, 8, 4), torch.randn(1, 2, 30, 4), torch.randn(1, 2, 30, 3)
    plain = sightline.attention(q, k, v)
    mean = torch.stack([dropped(q, k, v, 0.3, seed) for seed in range(400)]).mean(0)
    assert (mean - plain).abs().max() < 0.1
    assert (mean - plain).mean().abs() < 0.005


def test_patterns_of_rows_and_heads_are_independent():
    q = torch.zeros(1, 2, 200, 1)
    v = torch.eye(200).expand(1, 2, 200, 200)
    kept = (dropped(q, q, v, 0.5) > 0).float() - 0.5
    flat = kept.reshape(400, 200)
    correlation = (flat @ flat.T) / 50
    off = correlation - torch.diag(correlation.diag())
    assert off.abs().max() < 0.45  # 80,000 pairs of 200 draws: about 5 deviations
    assert flat.mean(0).abs().max() < 0.15


def test_blocks_do_not_change_the_pattern(monkeypatch):
    q, k, v = one_hot_values(50)
    whole = dropped(q, k, v, 0.5)
    monkeypatch.setattr(schedule, "BLOCK_ENTRIES", 700)
    torch.testing.assert_close(dropped(q, k, v, 0.5), whole)


def test_extremes():
    q, k, v = one_hot_values(5)
    assert (dropped(q, k, v, 1.0) == 0).all()
    assert torch.equal(dropped(q, k, v, 0.0), sightline.attention(q, k, v))


def test_the_matrix_has_no_dropout():
    q, k, v = one_hot_values(9)
    _, A = sightline.attention(q, k, v, dropout=0.9, return_matrix=True)
    torch.testing.assert_close(A.dense().sum(-1), torch.ones(1, 2, 9))

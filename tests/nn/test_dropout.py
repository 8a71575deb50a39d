"""Dropout: its shares, its mean, its gradient, and who draws where it may not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sightline.nn import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.85])
def test_shares_and_mean(p: float) -> None:
    torch.manual_seed(3)
    n = 4 * 49_999 + 3  # no multiple of what one draw serves
    dropped = Dropout(p)(torch.ones(n))
    kept = (dropped != 0).double()
    four = 4 * (p * (1 - p) / n) ** 0.5  # standard errors
    assert abs(float(kept.mean()) - (1 - p)) < four
    assert dropped.max() == pytest.approx(1 / (1 - p), rel=2e-4)
    # Numbers that share a draw are as independent of each other as any: both are kept with (1 − p)².
    for step in (1, 2, 3, 4):
        assert abs(float((kept[step:] * kept[:-step]).mean()) - (1 - p) ** 2) < 2 * four
    # Each quarter of a draw has the same share.
    for at in range(4):
        assert abs(float(kept[at::4].mean()) - (1 - p)) < 2 * four


def test_the_gradient_has_the_pattern_and_a_seed_repeats_it() -> None:
    x = torch.randn(7, 5, 3).transpose(0, 1).requires_grad_()
    torch.manual_seed(5)
    out = Dropout(0.4)(x)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(grad * x, out) and 0 < int((grad == 0).sum()) < grad.numel()
    torch.manual_seed(5)
    again = Dropout(0.4)(x)
    other = Dropout(0.4)(x)
    assert torch.equal(again, out) and not torch.equal(other, out)
    assert out.stride() == F.dropout(x, 0.4).stride()


def test_what_it_leaves_to_pytorch() -> None:
    x = torch.randn(6, 8)
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(Dropout(0.0)(x), x) and torch.equal(Dropout(1.0)(x), torch.zeros(6, 8))
    with pytest.raises(RuntimeError, match="randomness"):  # vmap would give every entry the same pattern
        torch.vmap(Dropout(0.5))(x)
    for dtype in (torch.bfloat16, torch.float64):
        assert Dropout(0.5)(x.to(dtype)).dtype == dtype

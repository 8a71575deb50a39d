"""Layers against plain PyTorch, and steps with a cache against one full pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import sightline
from sightline.nn import CrossAttention, KVCache, LearnedPositions, Rotary, SelfAttention, alibi_slopes


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_self_attention_is_the_equation(kv_heads: int) -> None:
    layer = SelfAttention(24, 4, kv_heads=kv_heads).double()
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    query = layer.query(x).view(2, 7, 4, 6).transpose(1, 2)
    key, value = (
        p(x).view(2, 7, kv_heads, 6).transpose(1, 2).repeat_interleave(4 // kv_heads, 1)
        for p in (layer.key, layer.value)
    )
    weights = (query @ key.mT / 6**0.5).softmax(-1)
    output, matrix = layer(x, return_matrix=True)
    torch.testing.assert_close(matrix.dense(), weights)
    torch.testing.assert_close(output, layer.output((weights @ value).transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("interleaved", [False, True])
def test_steps_with_a_cache_equal_the_full_pass(interleaved: bool) -> None:
    layer = SelfAttention(24, 4, kv_heads=2, rotary=Rotary(6, interleaved=interleaved))
    x = torch.randn(2, 7, 24)
    cache = KVCache()
    with torch.no_grad():
        full = layer(x, mask=sightline.causal())
        steps = [layer(part, mask=sightline.causal(), cache=cache) for part in x.split([3, 1, 1, 2], dim=1)]
    torch.testing.assert_close(torch.cat(steps, dim=1), full, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_scores_depend_on_distances_only(interleaved: bool) -> None:
    rotary = Rotary(8, interleaved=interleaved)
    query, key = torch.randn(2, 2, 3, 5, 8)
    near = rotary(query) @ rotary(key).mT
    far = rotary(query, 11) @ rotary(key, torch.tensor([11, 11])).mT
    torch.testing.assert_close(near, far, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(near, query @ key.mT, atol=1e-2)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("offset", [0, 5, torch.tensor([3, 40])])
def test_rotary_at_once_is_its_formula(interleaved: bool, dtype: torch.dtype, offset: int | Tensor) -> None:
    """With its gradients, whatever lies behind one another in memory."""
    rotary = Rotary(8, interleaved=interleaved)
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    for shape, order in (
        ((2, 3, 5, 8), (0, 1, 2, 3)),
        ((2, 5, 3, 8), (0, 2, 1, 3)),
        ((5, 2, 3, 8), (1, 2, 0, 3)),
    ):
        x = torch.randn(shape, dtype=dtype).permute(order).requires_grad_()
        at_once = rotary(x, offset)
        positions = torch.as_tensor(offset).reshape(-1, 1, 1) + torch.arange(5)
        formula = rotary.turned(x.double(), positions[..., None] * rotary.frequencies.double())
        found, wanted = (torch.autograd.grad(one.square().sum(), x)[0] for one in (at_once, formula))
        torch.testing.assert_close(at_once.double(), formula, atol=tolerance, rtol=tolerance)
        torch.testing.assert_close(found, wanted, atol=4 * tolerance, rtol=tolerance)
        with torch.no_grad():
            again = rotary(x, offset)
        assert torch.equal(again, at_once) and again.stride() == at_once.stride() == x.stride()


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_has_derivatives_of_any_kind(interleaved: bool) -> None:
    rotary = Rotary(4, interleaved=interleaved).double()
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rotary, (x,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(rotary, (x,))
    each = torch.func.vmap(rotary)(x.detach()[None].expand(3, 1, 2, 3, 4))
    torch.testing.assert_close(each[2], rotary(x.detach()))
    torch.testing.assert_close(torch.func.jacrev(rotary)(x), torch.func.jacfwd(rotary)(x))
    assert rotary(x[:, :, :0]).shape == (1, 2, 0, 4) and rotary(x[:0]).shape == (0, 2, 3, 4)


@pytest.mark.parametrize(("share", "turning"), [(0.0, 0), (0.5, 2), (0.7, 3), (1.0, 4)])
def test_a_share_of_the_pairs_turns_the_others_hold_still(share: float, turning: int) -> None:
    x = torch.randn(1, 2, 5, 8)
    whole, part = Rotary(8)(x, 7), Rotary(8, share=share)(x, 7)
    pairs = torch.arange(8) % 4
    torch.testing.assert_close(part[..., pairs < turning], whole[..., pairs < turning])
    assert torch.equal(part[..., pairs >= turning], x[..., pairs >= turning])


def test_a_padded_memory_is_not_seen_and_an_empty_one_stays_finite() -> None:
    layer = CrossAttention(24, 4, memory_width=10)
    x, memory = torch.randn(2, 3, 24), torch.randn(2, 5, 10)
    output = layer(x, memory, mask=sightline.lengths([4, 0]))
    torch.testing.assert_close(output[:1], layer(x[:1], memory[:1, :4]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output[1], layer.output.bias.expand(3, 24))


def test_alibi_slopes_of_the_paper() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    between = [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5]
    torch.testing.assert_close(alibi_slopes(12)[8:], torch.tensor(between))


def test_errors_name_the_argument() -> None:
    with pytest.raises(ValueError, match="heads: 5 do not divide the width 24"):
        SelfAttention(24, 5)
    with pytest.raises(ValueError, match="kv_heads: 3"):
        SelfAttention(24, 4, kv_heads=3)
    with pytest.raises(ValueError, match="width: must be even"):
        Rotary(5)
    with pytest.raises(ValueError, match="positions 0 to 8"):
        LearnedPositions(4, 2)(torch.zeros(1, 9, 2))

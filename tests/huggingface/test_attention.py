"""The attention function by itself: what it does with each argument."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compare import compiles
from tiny_models import assert_equal, pair, tokens
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward

import sightline
from sightline.huggingface import sightline_attention, sightline_mask
from sightline.huggingface.range_mask import RangeMask

B, H, G, N, M, D, E = 2, 4, 2, 5, 7, 6, 3


class Layer(nn.Module):
    def __init__(self, is_causal: bool = False, training: bool = False) -> None:
        super().__init__()
        self.is_causal = is_causal
        self.num_key_value_groups = H // G
        self.train(training)


def inputs(queries: int = N, keys: int = M, value_width: int = D) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(B, H, queries, D), torch.randn(B, G, keys, D), torch.randn(B, G, keys, value_width)


@pytest.mark.parametrize("queries", [1, N])
@pytest.mark.parametrize("module_causal", [False, True])
@pytest.mark.parametrize("given", [None, False, True])
def test_without_a_mask_as_sdpa(queries: int, module_causal: bool, given: bool | None) -> None:
    q, k, v = inputs(queries)
    layer = Layer(module_causal)
    expected, _ = sdpa_attention_forward(layer, q, k, v, None, is_causal=given)
    actual, weights = sightline_attention(layer, q, k, v, None, is_causal=given)
    assert weights is None
    assert_equal(actual, expected)


@pytest.mark.parametrize("mask", [None, "bool", "float"])
@pytest.mark.parametrize("causal", [False, True])
def test_position_bias_as_sdpa(mask: str | None, causal: bool) -> None:
    q, k, v = inputs()
    bias = torch.randn(1, H, N, M)
    seen = torch.rand(B, 1, N, M) > 0.3
    seen[..., 0] = True
    given = {None: None, "bool": seen, "float": torch.randn(B, 1, N, M)}[mask]
    expected, _ = sdpa_attention_forward(Layer(causal), q, k, v, given, position_bias=bias, scaling=1.0)
    actual, _ = sightline_attention(Layer(causal), q, k, v, given, position_bias=bias, scaling=1.0)
    assert_equal(actual, expected)


def test_context_is_contiguous_and_as_wide_as_the_values() -> None:
    context, _ = sightline_attention(Layer(), *inputs(value_width=E), None)
    assert context.shape == (B, N, H, E)
    assert context.is_contiguous()


def test_queries_that_come_once_for_the_batch() -> None:
    q, k, v = inputs()
    context, _ = sightline_attention(Layer(), q[:1], k, v, None)
    expected, _ = sightline_attention(Layer(), q[:1].expand(B, -1, -1, -1), k, v, None)
    assert torch.equal(context, expected)


def test_rows_that_see_nothing_are_zero() -> None:
    mask = torch.ones(B, 1, N, M, dtype=torch.bool)
    mask[0, :, 2] = False
    context, _ = sightline_attention(Layer(), *inputs(), mask)
    assert bool((context[0, 2] == 0).all())
    assert not context.isnan().any()


def test_only_the_listed_keys_are_seen() -> None:
    q, k, v = inputs()
    indices = torch.stack([torch.randperm(M)[:3] for _ in range(B * N)]).reshape(B, N, 3)
    seen = torch.zeros(B, N, M, dtype=torch.bool).scatter(-1, indices, True)[:, None]
    expected, _ = sightline_attention(Layer(), q, k, v, seen)
    assert_equal(sightline_attention(Layer(), q, k, v, None, indices=indices.int())[0], expected)


def test_dropout_in_training_only_and_not_in_the_matrix() -> None:
    arguments: dict[str, Any] = {"attention_mask": None, "dropout": 0.5}
    tensors = inputs()
    exact, _ = sightline_attention(Layer(), *tensors, None)
    asleep, _ = sightline_attention(Layer(training=False), *tensors, **arguments)
    awake, matrix = sightline_attention(Layer(training=True), *tensors, **arguments, output_attentions=True)
    assert torch.equal(asleep, exact)
    assert not torch.allclose(awake, exact)
    assert_equal(matrix.dense().sum(-1), torch.ones(B, H, N))


@pytest.mark.parametrize("request_by", ["argument", "configuration"])
def test_weights_on_request(request_by: str) -> None:
    layer = Layer()
    layer.config = type("Config", (), {"output_attentions": request_by == "configuration"})()
    asked = {"output_attentions": True} if request_by == "argument" else {}
    _, matrix = sightline_attention(layer, *inputs(), None, **asked)
    assert isinstance(matrix, sightline.AttentionMatrix)
    assert tuple(matrix.shape) == (B, H, N, M)


def test_keys_of_a_cache_are_copied_and_others_are_not() -> None:
    q, k, v = inputs()
    _, matrix = sightline_attention(Layer(), q, k, v, None, output_attentions=True)
    fresh = matrix.dense()
    cache = torch.zeros_like(k)
    cache.copy_(k)
    _, matrix = sightline_attention(Layer(), q, cache, v, None, output_attentions=True)
    cache.zero_()
    assert torch.equal(matrix.dense(), fresh)


def test_sinks_that_are_trained_on_do_not_change_a_matrix() -> None:
    sinks = nn.Parameter(torch.randn(H))
    _, matrix = sightline_attention(Layer(), *inputs(), None, s_aux=sinks, output_attentions=True)
    before = matrix.dense().clone()
    with torch.no_grad():
        sinks += 1
    assert torch.equal(matrix.dense(), before)


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (torch.ones(B, 1, N, M, dtype=torch.long), TypeError, r"bool .*or float.*torch\.int64.*\.bool\(\)"),
        (torch.ones(B, 1, N, M + 1, dtype=torch.bool), ValueError, "axis M has 8 entries, expected 7"),
    ],
)
def test_wrong_masks(mask: Tensor, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        sightline_attention(Layer(), *inputs(), mask)


@pytest.mark.parametrize("shape", [(N, M), (1, M), (N, 1), (1, 1), (N, M - 1), (N + 1, M)])
def test_masks_made_for_other_lengths(shape: tuple[int, int]) -> None:
    """Ranges broadcast, or are refused, as the tensor does that they stand for."""
    ranges = sightline_mask(B, *shape, attention_mask=torch.ones(B, shape[1], dtype=torch.bool))
    assert isinstance(ranges, RangeMask)
    tensors = inputs()
    if all(size in (1, full) for size, full in zip(shape, (N, M), strict=True)):
        expected = sightline_attention(Layer(), *tensors, ranges.dense())[0]
        assert_equal(sightline_attention(Layer(), *tensors, ranges)[0], expected)
    else:
        with pytest.raises(ValueError, match="does not broadcast"):
            sightline_attention(Layer(), *tensors, ranges)


@pytest.mark.parametrize("name", ["block_indices", "sinks"])
def test_terms_without_a_counterpart_are_errors(name: str) -> None:
    with pytest.raises(NotImplementedError, match=rf'does not support .*\({name}\).*"eager"'):
        sightline_attention(Layer(), *inputs(), None, **{name: torch.zeros(1)})


@compiles
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_torch_compile(name: str) -> None:
    from tiny_models import DECODERS, ENCODERS, padding

    ours, eager = pair((ENCODERS | DECODERS)[name])
    mask = padding("right", 8, (8, 5))
    with torch.no_grad():
        expected = eager(tokens(2, 8), attention_mask=mask)[0]
        actual = torch.compile(ours, backend="eager", fullgraph=True)(tokens(2, 8), attention_mask=mask)[0]
    assert_equal(actual[mask.bool()], expected[mask.bool()])

"""Attention outside of Hugging Face: torch.nn, the fused function, FlexAttention, and by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline

from .modules import NanoGPT, ids

MODES = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}
B, H, N, M, D = 2, 4, 7, 7, 8
saved_reference = F.scaled_dot_product_attention


def first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]


def traced(model: Any, run: Callable[[], Any], mode: str) -> Any:
    """The trace of a run, whose output is found to be the untraced one's."""
    with MODES[mode]():
        torch.manual_seed(1)
        before = first(run())
        torch.manual_seed(1)
        with sightline.trace(model) as trace:
            after = first(run())
    assert torch.equal(before, after)
    return trace


# --- torch.nn ------------------------------------------------------------------------------------------

X, Y = torch.randn(2, 6, 16), torch.randn(2, 9, 16)
CAUSAL = nn.Transformer.generate_square_subsequent_mask(6)
PADDING = torch.tensor([[0] * 6, [0] * 4 + [1] * 2]).bool()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("case", ["self", "cross", "causal", "padding"])
def test_multihead_attention(case: str, weights: bool, mode: str) -> None:
    layer = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    keys = Y if case == "cross" else X
    masks = {"causal": {"attn_mask": CAUSAL}, "padding": {"key_padding_mask": PADDING}}.get(case, {})
    run = lambda: layer(X, keys, keys, need_weights=weights, average_attn_weights=False, **masks)  # noqa: E731
    trace = traced(layer, run, mode)
    assert [(call.kind, call.verified) for call in trace] == [("cross" if case == "cross" else "self", True)]
    dense = trace[0].matrix.dense()
    assert dense.shape == (2, 2, 6, keys.shape[1])
    if weights:
        torch.testing.assert_close(dense, layer(X, keys, keys, average_attn_weights=False, **masks)[1])


@pytest.mark.parametrize("mode", MODES)
def test_multihead_attention_with_extra_keys(mode: str) -> None:
    layer = nn.MultiheadAttention(16, 2, add_bias_kv=True, add_zero_attn=True, batch_first=True).eval()
    trace = traced(layer, lambda: layer(X, X, X), mode)
    assert trace[0].verified and trace[0].shape == (2, 2, 6, 8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["plain", "padding", "causal", "norm_first"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_transformer_encoder(case: str, mode: str) -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=case == "norm_first")
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=case == "padding").eval()
    options = {"padding": {"src_key_padding_mask": PADDING}, "causal": {"mask": CAUSAL}}.get(case, {})
    trace = traced(encoder, lambda: encoder(X, **options), mode)
    assert [call.name for call in trace] == ["layers.0.self_attn", "layers.1.self_attn"]
    assert trace.unverified == []
    if mode != "grad":
        assert "fast path" in trace[0].how
    if case == "padding":
        assert bool((trace[0].matrix.dense()[1, :, :4, 4:] == 0).all())


@pytest.mark.parametrize("mode", MODES)
def test_transformer(mode: str) -> None:
    model = nn.Transformer(16, 2, 2, 2, 32, batch_first=True).eval()
    trace = traced(model, lambda: model(Y, X, tgt_mask=CAUSAL), mode)
    assert [(call.name.split(".", 3)[-1], call.kind) for call in trace][2:4] == [
        ("self_attn", "self"),
        ("multihead_attn", "cross"),
    ]
    assert len(trace) == 6
    assert trace.unverified == []


@pytest.mark.parametrize("mode", MODES)
def test_nanogpt(mode: str) -> None:
    model = NanoGPT().eval()
    trace = traced(model, lambda: model(ids()), mode)
    assert [(c.name, c.kind, c.verified) for c in trace] == [
        ("h.0.attn", "self", True),
        ("h.1.attn", "self", True),
    ]
    assert trace["h.0"] is trace[0]
    assert trace["h.1.attn"] is trace[1]
    for call in trace:
        assert call.matrix.problem.ranges is not None and call.matrix.problem.visible is None


# --- the fused function --------------------------------------------------------------------------------

Q, K, V = torch.randn(3, B, H, N, D)
SEEN = torch.rand(N, M) > 0.3
SDPA: dict[str, tuple[Callable[[], Tensor], tuple[int, ...]]] = {
    "plain": (lambda: F.scaled_dot_product_attention(Q, K, V), (B, H, N, M)),
    "a saved reference": (lambda: saved_reference(Q, K, V), (B, H, N, M)),
    "top left": (lambda: saved_reference(Q, K[:, :, :5], V[:, :, :5], is_causal=True), (B, H, N, 5)),
    "more keys": (lambda: saved_reference(Q[:, :, :3], K, V, is_causal=True), (B, H, 3, M)),
    "bool mask": (lambda: saved_reference(Q, K, V, attn_mask=SEEN), (B, H, N, M)),
    "float mask": (lambda: saved_reference(Q, K, V, attn_mask=torch.randn(B, 1, N, M)), (B, H, N, M)),
    "grouped": (lambda: saved_reference(Q, K[:, :2], V[:, :2], enable_gqa=True), (B, H, N, M)),
    "other width": (lambda: saved_reference(Q, K, V[..., :5], attn_mask=SEEN, scale=0.3), (B, H, N, M)),
    "3-D": (lambda: saved_reference(Q[0], K[0], V[0], is_causal=True), (1, H, N, M)),
    "2-D": (lambda: saved_reference(Q[0, 0], K[0, 0], V[0, 0]), (1, 1, N, M)),
    "broadcast": (lambda: saved_reference(Q, K[:1], V[:1]), (B, H, N, M)),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", SDPA)
def test_scaled_dot_product_attention(case: str, mode: str) -> None:
    run, shape = SDPA[case]
    trace = traced(None, run, mode)
    assert len(trace) == 1 and trace[0].verified
    assert trace[0].shape == shape


def test_sdpa_of_five_axes() -> None:
    q = torch.randn(3, B, H, N, D)
    trace = traced(None, lambda: saved_reference(q, q, q), "inference")
    assert trace[0].verified and trace[0].shape == (3 * B, H, N, N)


# --- by hand -------------------------------------------------------------------------------------------

TRIANGLE = torch.ones(N, M).tril().bool()
LEAST = torch.finfo(torch.float32).min
SINKS = torch.randn(H)


def in_two_steps() -> Tensor:
    scores = Q @ K.mT * 0.3
    shares = (scores - scores.amax(-1, keepdim=True)).exp()
    return shares / shares.sum(-1, keepdim=True) @ V


def in_place() -> Tensor:
    scores = Q @ K.mT
    scores.mul_(0.3)
    scores.masked_fill_(~TRIANGLE, -math.inf)
    scores += 1.0
    return scores.softmax(-1) @ V


def with_sinks() -> Tensor:
    scores = torch.cat([Q @ K.mT, SINKS.view(1, H, 1, 1).expand(B, H, N, 1)], -1)
    return (scores - scores.amax(-1, keepdim=True)).softmax(-1)[..., :-1] @ V


def by_einsum() -> Tensor:
    q, k, v = (t.transpose(1, 2) for t in (Q, K, V))
    weights = (torch.einsum("bihd,bjhd->bhij", q, k) * 0.3).softmax(-1)
    return torch.einsum("bhij,bjhd->bihd", weights, v)


def heads_last() -> Tensor:
    q, k, v = (t.transpose(1, 2) for t in (Q, K, V))
    weights = (torch.einsum("bihd,bjhd->bijh", q, k) * 0.3).softmax(2)
    return torch.einsum("bijh,bjhd->bihd", weights, v)


def with_baddbmm() -> Tensor:
    bias = torch.linspace(-1, 1, B * H * M).view(B * H, 1, M)
    scores = torch.baddbmm(bias, Q.flatten(0, 1), K.flatten(0, 1).mT, alpha=0.3, beta=0.5)
    return scores.view(B, H, N, M).softmax(-1) @ V


def grouped_in_five_axes() -> Tensor:
    scores = Q.unflatten(1, (2, 2)) @ K[:, :2, None].mT * 0.3
    return (scores.softmax(-1) @ V[:, :2, None]).flatten(1, 2)


BY_HAND: dict[str, Callable[[], Tensor]] = {
    "plain": lambda: (Q @ K.mT / math.sqrt(D)).softmax(-1) @ V,
    "masked_fill": lambda: (Q @ K.mT * 0.3).masked_fill(~TRIANGLE, -1e9).softmax(-1) @ V,
    "where": lambda: torch.where(TRIANGLE, Q @ K.mT * 0.3, LEAST).softmax(-1) @ V,
    "added mask": lambda: (Q @ K.mT + torch.zeros(N, M).masked_fill(~SEEN, -math.inf)).softmax(-1) @ V,
    "bias and mask": lambda: ((Q @ K.mT + torch.arange(M) * 0.1) * 0.3).masked_fill(~SEEN, LEAST).softmax(-1) @ V,
    "soft cap": lambda: (5 * torch.tanh(Q @ K.mT * 0.3 / 5)).masked_fill(~TRIANGLE, -math.inf).softmax(-1) @ V,
    "a temperature for each head": lambda: (Q @ K.mT * torch.linspace(0.1, 1, H).view(H, 1, 1)).softmax(-1) @ V,
    "keys first": lambda: (V.mT @ (K @ Q.mT * 0.3).softmax(-2)).mT,
    "no batch": lambda: (Q[0, 0] @ K[0, 0].T).softmax(-1) @ V[0, 0],
    "batch times heads": lambda: torch.bmm((Q.flatten(0, 1) @ K.flatten(0, 1).mT).softmax(-1), V.flatten(0, 1)),
    "a softmax in float32": lambda: F.softmax(Q.double() @ K.double().mT, -1, torch.float32).double() @ V.double(),
    "in two steps": in_two_steps,
    "in place": in_place,
    "sinks": with_sinks,
    "einsum": by_einsum,
    "heads last": heads_last,
    "baddbmm": with_baddbmm,
    "groups of heads": grouped_in_five_axes,
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", BY_HAND)
def test_by_hand(case: str, mode: str) -> None:
    trace = traced(None, BY_HAND[case], mode)
    assert len(trace) == 1
    assert trace[0].reason is None
    assert trace[0].how == "softmax(q·kᵀ)·v"


def test_what_is_masked_by_hand_is_ranges() -> None:
    with sightline.trace(None) as trace:
        BY_HAND["masked_fill"]()
        BY_HAND["added mask"]()
    assert trace[0].matrix.problem.ranges.shape == (1, 1, N, 1, 2)
    assert trace[1].matrix.problem.bias is None


def test_scores_that_are_no_product_are_kept_densely() -> None:
    def additive() -> Tensor:
        return torch.tanh(Q[:, :, :, None] + K[:, :, None]).sum(-1).softmax(-1) @ V

    trace = traced(None, additive, "no_grad")
    assert trace[0].verified and trace[0].how == "softmax(scores)·v"
    expected = torch.tanh(Q[:, :, :, None] + K[:, :, None]).sum(-1).softmax(-1)
    torch.testing.assert_close(trace[0].matrix.dense(), expected)


def test_what_is_no_attention_is_none() -> None:
    """Classifiers, mixtures of weights, plain products."""
    layer = nn.Linear(D, D)

    def run() -> Tensor:
        mixed = layer(Q).softmax(-1) @ layer.weight
        return (mixed @ K.mT).relu() @ V

    with pytest.warns(UserWarning, match="no attention was seen"), sightline.trace(layer) as trace:
        run()
    assert len(trace) == 0


# --- FlexAttention -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", ["plain", "causal", "bias", "soft cap", "unknown"])
def test_flex_attention(case: str, compiled: bool) -> None:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    function = torch.compile(flex_attention, backend="eager") if compiled else flex_attention
    score_mods: dict[str, Any] = {
        "bias": lambda score, b, h, i, j: score - 0.1 * h * (i - j).abs(),
        "soft cap": lambda score, b, h, i, j: 2.0 * torch.tanh(score / 2.0),
        "unknown": lambda score, b, h, i, j: score * score,
    }
    mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, N, M, device="cpu")
    with torch.no_grad(), sightline.trace(None) as trace:
        function(Q, K, V, score_mod=score_mods.get(case), block_mask=mask if case == "causal" else None)
    assert [call.how for call in trace] == ["flex_attention"]
    if case == "unknown":
        assert "score_mod" in (trace[0].reason or "")
    else:
        assert trace[0].verified
    if case == "causal":
        assert trace[0].matrix.problem.ranges is not None


def test_expanded_masks_are_read_once() -> None:
    mask = TRIANGLE.expand(B, H, N, M)
    with torch.no_grad(), sightline.trace(None) as trace:
        F.scaled_dot_product_attention(Q, K, V, attn_mask=mask)
        F.scaled_dot_product_attention(Q, K, V, attn_mask=torch.randn(N, M).expand(B, H, N, M))
    assert trace.unverified == []
    assert trace[0].matrix.problem.ranges.shape[:2] == (1, 1)
    assert trace[1].matrix.problem.bias.shape == (1, 1, N, M)

"""sdpa_override: unchanged programs on Sightline, with PyTorch's own results."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
import sightline.call.sdpa

from .families import FAMILIES, make

saved = F.scaled_dot_product_attention
Q, K, V = torch.randn(3, 2, 4, 7, 8)
SEEN = torch.rand(7, 7) > 0.3
MODES = {"grad": torch.enable_grad, "no_grad": torch.no_grad, "inference": torch.inference_mode}

CASES: dict[str, Callable[[], Tensor]] = {
    "plain": lambda: F.scaled_dot_product_attention(Q, K, V),
    "a saved reference": lambda: saved(Q, K, V),
    "fewer keys, causal": lambda: saved(Q, K[:, :, :5], V[:, :, :5], is_causal=True),
    "more keys, causal": lambda: saved(Q[:, :, :3], K, V, is_causal=True),
    "bool mask": lambda: saved(Q, K, V, attn_mask=SEEN),
    "bool mask of batch and heads": lambda: saved(Q, K, V, attn_mask=SEEN.expand(2, 4, 7, 7)),
    "float mask": lambda: saved(Q, K, V, attn_mask=torch.arange(7.0).expand(2, 1, 7, 7)),
    "nothing seen": lambda: saved(Q, K, V, attn_mask=torch.zeros(7, 7).bool()),
    "scale": lambda: saved(Q, K, V, scale=0.1),
    "grouped": lambda: saved(Q, K[:, :2], V[:, :2], enable_gqa=True),
    "one key head": lambda: saved(Q, K[:, :1], V[:, :1], enable_gqa=True, is_causal=True),
    "width of values": lambda: saved(Q, K, V[..., :5]),
    "2-D": lambda: saved(Q[0, 0], K[0, 0], V[0, 0], attn_mask=SEEN),
    "3-D": lambda: saved(Q[0], K[0], V[0], is_causal=True),
    "5-D": lambda: saved(Q[None], K[None], V[None], attn_mask=SEEN.expand(1, 2, 1, 7, 7)),
    "6-D": lambda: saved(Q[None, None], K[None, None], V[None, None], is_causal=True),
    "broadcast batch": lambda: saved(Q, K[:1], V[:1]),
    "broadcast heads": lambda: saved(Q, K[:, :1], V[:, :1]),
    "broadcast query": lambda: saved(Q[:1, :1], K, V),
    "broadcast 5-D": lambda: saved(Q.expand(3, 2, 4, 7, 8), K[None], V[None], attn_mask=SEEN.expand(3, 1, 1, 7, 7)),
    "keys without a batch": lambda: saved(Q, K[0], V[0]),
    "float64": lambda: saved(Q.double(), K.double(), V.double()),
    "interleaved heads": lambda: saved(Q.transpose(1, 2), K.transpose(1, 2), V.transpose(1, 2)),
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_equals_pytorch(case: str, mode: str) -> None:
    with MODES[mode]():
        expected = CASES[case]()
        with sightline.sdpa_override() as override:
            actual = CASES[case]()
    assert (override.calls, dict(override.fallbacks)) == (1, {})
    assert actual.dtype == expected.dtype
    torch.testing.assert_close(actual, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    given = [t.to(dtype) for t in (Q, K, V)]
    with sightline.sdpa_override() as override:
        actual = saved(*given, is_causal=True)
    assert override.calls == 1 and actual.dtype == dtype
    expected = saved(*(t.double() for t in given), is_causal=True)
    torch.testing.assert_close(actual.double(), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_gradients(mask: str | None) -> None:
    given = [t.clone().requires_grad_() for t in (Q, K, V)]
    bias = torch.randn(7, 7, requires_grad=True)
    seen = {None: None, "bool": SEEN, "float": bias}[mask]
    wanted = given + ([bias] if mask == "float" else [])
    gradients = []
    for overridden in (False, True):
        with sightline.sdpa_override() if overridden else torch.enable_grad():
            loss = saved(*given, attn_mask=seen).sin().sum()
        gradients.append(torch.autograd.grad(loss, wanted))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_dropout() -> None:
    with sightline.sdpa_override() as override:
        torch.manual_seed(0)
        one = saved(Q, K, V, dropout_p=0.5)
        torch.manual_seed(0)
        again = saved(Q, K, V, dropout_p=0.5)
        mean = torch.stack([saved(Q, K, V, dropout_p=0.2) for _ in range(400)]).mean(0)
    assert override.calls == 402
    assert torch.equal(one, again) and not torch.allclose(one, saved(Q, K, V))
    torch.testing.assert_close(mean, saved(Q, K, V), atol=0.3, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_torch_nn(mode: str) -> None:
    x = torch.randn(2, 5, 16)
    attention = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2).eval()
    run = lambda: (attention(x, x, x, need_weights=False)[0], encoder(x))  # noqa: E731
    with MODES[mode]():
        expected = run()
        with sightline.sdpa_override() as override:
            actual = run()
    assert override.calls == 3
    for mine, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("name", ["bert", "llama", "bart", "vit"])
def test_models(name: str) -> None:
    model, inputs = make(name, "sdpa"), FAMILIES[name].inputs()
    with torch.no_grad():
        expected = model(**inputs)
        with sightline.sdpa_override() as override:
            actual = model(**inputs)
    assert override.calls == FAMILIES[name].calls and not override.fallbacks
    mask = inputs.get("attention_mask")
    mine, theirs = actual[0], expected[0]
    if mask is not None and mine.shape[:2] == mask.shape:
        mine, theirs = mine[mask.bool()], theirs[mask.bool()]
    torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


# --- the block -----------------------------------------------------------------------------------------


def assert_over() -> None:
    override = sightline.sdpa_override()
    saved(Q, K, V)
    assert override.calls == 0 and sightline.call.sdpa._open == 0
    assert not torch._C._dispatch_has_kernel_for_dispatch_key("aten::scaled_dot_product_attention", "CPU")


def test_ends_with_its_block() -> None:
    with sightline.sdpa_override() as outer:
        with sightline.sdpa_override() as inner:
            saved(Q, K, V)
        saved(Q, K, V)
    assert (outer.calls, inner.calls) == (2, 1)
    assert_over()


def test_ends_after_an_error() -> None:
    with pytest.raises(KeyError), sightline.sdpa_override():
        raise KeyError
    assert_over()


def test_a_block_is_open_once() -> None:
    override = sightline.sdpa_override()
    with override, pytest.raises(RuntimeError, match="open already"), override:
        pass
    assert_over()


def test_other_threads_keep_pytorchs() -> None:
    found: list[Any] = []
    with sightline.sdpa_override() as override:
        thread = threading.Thread(target=lambda: found.append(saved(Q, K, V)))
        thread.start()
        thread.join()
    assert override.calls == 0
    assert torch.equal(found[0], saved(Q, K, V))


def test_threads_with_blocks_of_their_own() -> None:
    counts: list[int] = []

    def work() -> None:
        for _ in range(20):
            with sightline.sdpa_override() as override:
                saved(Q, K, V)
            counts.append(override.calls)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * 80
    assert_over()


def test_what_pytorch_refuses_is_its_own_error() -> None:
    wrong: list[Callable[[], Tensor]] = [
        lambda: saved(Q, K[..., :3], V),
        lambda: saved(Q, K.double(), V),
        lambda: saved(Q, K, V, attn_mask=SEEN[:, :3]),
        lambda: saved(Q, K[:, :3], V[:, :3], enable_gqa=True),
    ]
    for call in wrong:
        with pytest.raises((RuntimeError, ValueError)) as theirs:
            call()
        with sightline.sdpa_override() as override, pytest.raises((RuntimeError, ValueError)) as mine:
            call()
        assert str(mine.value).splitlines()[0] == str(theirs.value).splitlines()[0]
        assert override.calls == 0


def test_fallbacks_are_counted() -> None:
    empty = torch.empty(2, 4, 0, 8)
    with sightline.sdpa_override() as override:
        assert saved(empty, K, V).shape == (2, 4, 0, 8)
        saved(Q, K, V, attn_mask=SEEN, is_causal=True)
    assert override.calls == 0
    assert dict(override.fallbacks) == {"no entries": 1, "a mask and is_causal": 1}
    assert "no entries" in repr(override)


def test_compiled_functions_keep_pytorchs() -> None:
    function = torch.compile(lambda q: saved(q, K, V) + 1, backend="aot_eager")
    with torch.no_grad(), sightline.sdpa_override() as override:
        result = function(Q)
    torch.testing.assert_close(result, saved(Q, K, V) + 1)
    assert override.calls == 0
    with torch.no_grad():
        assert torch.equal(function(Q), result)


def test_a_trace_sees_it() -> None:
    for mode in MODES.values():
        with mode(), sightline.sdpa_override() as override, sightline.trace(None) as trace:
            saved(Q, K, V, is_causal=True)
        assert override.calls == 1
        assert [call.verified for call in trace] == [True]


def test_pytorchs_registry() -> None:
    registry = pytest.importorskip("torch.nn.attention")
    if not hasattr(registry, "activate_flash_attention_impl"):
        pytest.skip("this PyTorch has no registry of attention implementations")
    assert "sightline" in registry.list_flash_attention_impls()
    registry.activate_flash_attention_impl("sightline")
    try:
        with sightline.sdpa_override() as override:
            saved(Q, K, V)
        with torch.no_grad(), sightline.trace(None) as trace:
            saved(Q, K, V)
    finally:
        registry.restore_flash_attention_impl()
    assert override.calls == 1
    assert trace[0].how == "sightline.attention"
    assert_over()

"""Attention in windows of the input, or over channels: listed as such, and not multiplied through layers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sightline
from sightline import measure

from .timm_alone import import_timm

B, W, N, C, H = 2, 4, 9, 16, 2


class Windows(nn.Module):
    """[B,W,N,C], as a block of windows has it; heads before the windows, behind them, or in the batch."""

    def __init__(self, order: str, fused: bool, heads: int = H) -> None:
        super().__init__()
        self.qkv, self.num_heads, self.order, self.fused = nn.Linear(C, 3 * C), heads, order, fused

    def forward(self, x: Tensor) -> Any:
        windows, order = x.shape[1], self.order
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        if order == "folded":
            q, k, v = (t.flatten(0, 1).transpose(1, 2) for t in (q, k, v))
        else:
            axes = (0, 3, 1, 2, 4) if order == "heads first" else (0, 1, 3, 2, 4)
            q, k, v = (t.permute(axes) for t in (q, k, v))
        if self.fused:
            context = F.scaled_dot_product_attention(q, k, v)
        else:
            context = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        if order == "folded":
            context = context.unflatten(0, (-1, windows)).transpose(2, 3)
        else:
            context = context.permute((0, 2, 3, 1, 4) if order == "heads first" else (0, 1, 3, 2, 4))
        return x + context.flatten(-2)


def weights_of(block: Any, x: Tensor) -> Any:
    """[B·W,H,N,N], window by window."""
    q, k, _ = block.qkv(x).unflatten(-1, (3, block.num_heads, -1)).unbind(-3)
    weights = (torch.einsum("bwihd,bwjhd->bwhij", q, k) / q.shape[-1] ** 0.5).softmax(-1)
    return weights.flatten(0, 1)


def traced(model: nn.Module, x: Tensor) -> Any:
    with torch.no_grad(), sightline.trace(model) as trace:
        model(x)
    return trace


@pytest.mark.parametrize("heads", [H, W, 1])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("order", ["heads first", "windows first", "folded"])
def test_windows_belong_to_the_batch(order: str, fused: bool, heads: int) -> None:
    model = nn.Sequential(Windows(order, fused, heads), Windows(order, fused, heads))
    x = torch.randn(B, W, N, C) if heads != W else torch.randn(B, 3, N, C)
    trace = traced(model, x)
    assert trace.unverified == []
    assert [call.windows for call in trace] == [x.shape[1]] * 2
    with torch.no_grad():
        torch.testing.assert_close(trace[0].matrix.dense(), weights_of(model[0], x))


def test_layers_of_windows_are_not_multiplied(tmp_path: Path) -> None:
    model = nn.Sequential(Windows("folded", True), Windows("folded", True))
    trace = traced(model, torch.randn(B, W, N, C))
    assert "4 windows each" in repr(trace[0])
    path = tmp_path / "windows.safetensors"
    trace.save(path)
    for one in (trace, sightline.load_trace(path)):
        with pytest.raises(
            ValueError, match="layers: 0 cuts each input into 4 windows: layers can only be mul"
        ):
            one.rollout(0)
    assert measure.entropy(trace[0]).shape == (B * W, H)  # one layer alone is what it is
    graded = measure.Layer(trace[0], torch.zeros(B * W, H, N, C // H))
    with pytest.raises(ValueError, match="4 windows"):
        measure.relevance([graded], 0)


def test_a_batch_that_all_layers_share_is_no_window() -> None:
    """Choices, frames or views that are folded into the batch before the first layer."""

    class Choices(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(C, H, 32, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

        def forward(self, x: Tensor) -> Any:
            return self.encoder(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    trace = traced(Choices().eval(), torch.randn(B, W, N, C))
    assert [call.windows for call in trace] == [1, 1]
    assert trace.rollout(0).shape == (B * W, N)


@pytest.mark.parametrize("batch", [1, 4, N])
def test_a_sequence_that_comes_first_is_no_window(batch: int) -> None:
    layer = nn.TransformerEncoderLayer(C, H, 32)
    for length in (1, N):
        trace = traced(
            nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval(), torch.randn(length, batch, C)
        )
        assert [call.windows for call in trace] == [1, 1]


def test_channels_that_look_at_each_other() -> None:
    class OverChannels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.num_heads = nn.Linear(C, 3 * C), H

        def forward(self, x: Tensor) -> Any:
            q, k, v = self.qkv(x).unflatten(-1, (3, H, -1)).permute(2, 0, 3, 4, 1)
            weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT).softmax(-1)
            return x + (weights @ v).permute(0, 3, 1, 2).flatten(2)

    trace = traced(nn.Sequential(OverChannels(), OverChannels()), torch.randn(B, N, C))
    assert trace.unverified == []
    assert (trace[0].shape, trace[0].rows) == ((B, H, C // H, C // H), "channels")
    with pytest.raises(ValueError, match="0 has channels for rows"):
        trace.rollout(0)


TIMM = {
    "nest_tiny": [(32, 3), (8, 6), (2, 12)],
    "hiera_tiny_224": [(98, 1), (98, 2), (98, 4), (2, 4), (2, 8)],
    "halonet26t": [(8, 8), (2, 8)],
}


@pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", TIMM)
def test_windows_of_timm(name: str, fused: bool) -> None:
    model = import_timm().create_model(name).eval()
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused
    trace = traced(model, torch.randn(2, *model.default_cfg["input_size"]))
    assert trace.unverified == []
    assert list(dict.fromkeys(call.shape[:2] for call in trace)) == TIMM[name]
    assert all(call.windows == call.shape[0] // 2 for call in trace)
    with pytest.raises(ValueError, match="windows"):
        trace.rollout(0)

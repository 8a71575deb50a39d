"""Vision transformers of timm: relative positions, normalised queries and keys, windows; fused or by hand."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sightline

from .timm_alone import import_timm

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed: pip install --no-deps timm"
)

SMALL = {"img_size": 56, "embed_dim": 32, "num_classes": 3}
PLAIN = SMALL | {"depth": 2, "num_heads": 4, "patch_size": 8}
#: (timm's name, settings, whether scores have a bias).
MODELS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "vit": ("vit_tiny_patch16_224", PLAIN, False),
    "normalised queries and keys": ("vit_tiny_patch16_224", PLAIN | {"qk_norm": True}, False),
    "relative position bias": ("vit_relpos_small_patch16_224", PLAIN, True),
    "rotary": ("eva02_tiny_patch14_224", PLAIN, False),
    "shifted windows": (
        "swin_tiny_patch4_window7_224", SMALL | {"depths": (2,), "num_heads": (4,), "window_size": 7}, True,
    ),
}  # fmt: skip


def make(name: str) -> tuple[nn.Module, Tensor]:
    kind, settings, _ = MODELS[name]
    torch.manual_seed(0)
    model = import_timm().create_model(kind, **settings).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model, torch.randn(2, 3, 56, 56)


def attentions(model: nn.Module) -> dict[str, Any]:
    return {name: module for name, module in model.named_modules() if hasattr(module, "fused_attn")}


@contextmanager
def weights_seen(model: nn.Module) -> Iterator[list[Tensor]]:
    """What goes into the dropout after the softmax of attention by hand: the weights themselves."""
    seen: list[Tensor] = []
    handles = [
        module.attn_drop.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        for module in attentions(model).values()
    ]
    yield seen
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_every_call_is_caught_and_verified(name: str, fused: bool, mode: type) -> None:
    model, image = make(name)
    for module in attentions(model).values():
        module.fused_attn = False
    with mode(), weights_seen(model) as wanted:
        model(image)
    for module in attentions(model).values():
        module.fused_attn = fused
    with mode():
        before = model(image)
        with sightline.trace(model) as trace:
            after = model(image)
    assert torch.equal(before, after)
    assert [call.name for call in trace] == list(attentions(model))
    assert trace.unverified == [] and trace.notices == []
    assert len(trace) == len(wanted) == 2
    for call, weights in zip(trace, wanted, strict=True):
        assert (call.how == "softmax(q·kᵀ)·v") is not fused
        assert call.kind == "self"
        assert (call.matrix.problem.bias is not None) is MODELS[name][2]
        torch.testing.assert_close(call.matrix.dense(), weights, atol=2e-6, rtol=2e-4)

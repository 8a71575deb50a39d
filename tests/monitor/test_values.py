"""What is logged, against dense float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import sightline
from sightline.monitoring import Limits

from .models import HEADS, WIDTH, Model, batch


def watched(model: nn.Module, *args: Any, every: int = 1, **options: Any) -> list[Any]:
    arguments = options.pop("arguments", {})
    with sightline.monitor(model, every, **options) as monitor:
        model(*args, **arguments)
    return monitor.last


def agree(layer: Any, weights: Tensor, scaled: Tensor | None = None, context: Tensor | None = None) -> None:
    """Causal or full weights [B,H,N,M] in float64 against what was logged."""
    counts = (weights > 0).sum(-1)
    entropy = torch.special.entr(weights).sum(-1)
    several = (counts > 1)[:, 0].expand(*counts.shape[:1], counts.shape[2])
    normalized = (entropy / counts.clamp(min=2).log()).transpose(0, 1)[:, several].mean(-1)

    def heads(values: Tensor) -> Any:
        return pytest.approx(values.tolist(), rel=2e-5, abs=2e-6)

    assert layer.entropy == heads(entropy.mean((0, 2)))
    assert layer.normalized_entropy == heads(normalized)
    assert layer.sink_mass == heads(weights[..., 0].mean((0, 2)))
    if scaled is not None:
        assert layer.max_logit == heads(scaled.amax((0, 2, 3)))
    if context is not None:
        assert layer.context == heads(context.square().sum(-1).mean((0, 2)).sqrt())
    summary = layer.summary()
    assert summary["heads"] == weights.shape[1] and summary["dead_heads"] == len(layer.dead)
    assert summary["entropy"] == pytest.approx(float(entropy.mean()), rel=2e-5)
    assert summary["entropy_min"] == min(layer.entropy)
    assert summary["max_logit"] == max(layer.max_logit)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}, {"softcap": 2.0}])
def test_by_hand(options: dict[str, Any]) -> None:
    """With dropout: the weights before it. Under a soft cap: the logit before it."""
    model = Model(**options)
    for layer in model.layers:
        layer.factor = 5.0
    layers = watched(model, batch())
    assert [(layer.name, layer.kind) for layer in layers] == [("layers.0", "self"), ("layers.1", "self")]
    for layer, module in zip(layers, model.layers, strict=True):
        agree(layer, **module.dense())
    if "softcap" in options:
        assert layers[0].summary()["max_logit"] > 2


def test_batch_entries() -> None:
    model = Model(1)
    (layer,) = watched(model, batch(), batch_entries=2)
    seen = {name: tensor[:2] for name, tensor in model.layers[0].dense().items()}
    agree(layer, **seen)


def test_long_rows_take_a_sample_for_the_context() -> None:
    model = Model(1)
    (layer,) = watched(model, batch(300))
    agree(layer, model.layers[0].dense()["weights"], model.layers[0].dense()["scaled"])
    sample = model.layers[0].dense()["context"][:, :, ::5]
    assert layer.context == pytest.approx(sample.square().sum(-1).mean((0, 2)).sqrt().tolist(), rel=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_gpt2(attention: str) -> None:
    config = hf.GPT2Config(n_layer=2, n_head=4, n_embd=32, vocab_size=61, n_positions=32)
    config._attn_implementation = attention
    model = hf.GPT2LMHeadModel(config).train()  # with its dropout of 0.1
    model.transformer.drop.eval()
    ids = torch.randint(0, 61, (2, 11))
    kept: dict[str, Tensor] = {}
    model.transformer.h[0].attn.c_attn.register_forward_hook(lambda m, a, out: kept.update(qkv=out.detach()))
    layers = watched(model, ids)
    assert [layer.name for layer in layers] == ["transformer.h.0.attn", "transformer.h.1.attn"]
    q, k, v = (t.double().unflatten(-1, (4, 8)).transpose(1, 2) for t in kept["qkv"].split(32, -1))
    scaled = (q @ k.mT / math.sqrt(8)).masked_fill(torch.ones(11, 11).triu(1).bool(), -torch.inf)
    weights = scaled.softmax(-1)
    agree(layers[0], weights, scaled, weights @ v)


def test_transformer_encoder_with_padding() -> None:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).train()
    x = batch()
    padding = torch.zeros(3, 9, dtype=torch.bool)
    padding[1, 6:] = True
    layers = watched(model, x, arguments={"src_key_padding_mask": padding})
    assert [layer.name for layer in layers] == ["layers.0.self_attn", "layers.1.self_attn"]
    _, weights = model.layers[0].self_attn(x, x, x, padding, average_attn_weights=False)
    agree(layers[0], weights.detach().double())


def test_attention_that_is_itself_the_model() -> None:
    model = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    x = batch()
    (layer,) = watched(model, x, x, x)
    _, weights = model(x, x, x, average_attn_weights=False)
    assert layer.name == ""
    agree(layer, weights.detach().double())


def test_encoder_and_decoder() -> None:
    config = hf.T5Config(
        vocab_size=61, d_model=32, d_kv=8, d_ff=40, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    model = hf.T5ForConditionalGeneration(config).train()
    layers = watched(model, torch.randint(1, 61, (2, 9)), arguments={"labels": torch.randint(1, 61, (2, 5))})
    assert [layer.kind for layer in layers] == ["self", "self", "self", "cross", "self", "cross"]
    assert layers[3].name == "decoder.block.0.layer.1.EncDecAttention"
    assert all(0 < entropy < math.log(9) for layer in layers for entropy in layer.entropy)


def test_gradient_checkpointing_autocast_and_layers() -> None:
    config = hf.GPT2Config(n_layer=2, n_head=4, n_embd=32, vocab_size=61, n_positions=32, attn_pdrop=0.0)
    model = hf.GPT2LMHeadModel(config).train()
    model.activation_checkpointing_enable()
    ids = torch.randint(0, 61, (2, 11))
    with sightline.monitor(model, 1, layers="transformer.h.1") as monitor:
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        assert monitor.logged == 0 and [layer.name for layer in monitor.last] == ["transformer.h.1.attn"]
        rough = monitor.last[0]
    for dropout in (module for module in model.modules() if isinstance(module, nn.Dropout)):
        dropout.eval()
    (exact,) = watched(model, ids, layers="transformer.h.1")
    assert rough.normalized_entropy == pytest.approx(exact.normalized_entropy, abs=0.05)
    assert all(0 < entropy < 1 for entropy in rough.normalized_entropy)


@pytest.mark.parametrize("in_place", [False, True])
def test_compiled(in_place: bool) -> None:
    """Compiled without a break, and uncompiled in the passes that are looked at."""
    model = Model(1)
    model.layers[0].kept = tuple(torch.zeros(3))
    runs: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        def run(*tensors: Any) -> Any:
            runs.append(len(steps))
            return graph(*tensors)

        return run

    torch._dynamo.reset()
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    if in_place:
        model.compile(backend=backend, fullgraph=True)
        compiled = model
    steps: list[Any] = []
    with sightline.monitor(compiled, 3, lambda step, layers: steps.append((step, layers))):
        for _ in range(5):
            compiled(batch())
    assert [step for step, _ in steps] == [0, 3]
    assert runs == [1, 1, 2]
    (layer,) = watched(compiled, batch())
    assert layer.name == "layers.0"
    agree(layer, model.layers[0].dense()["weights"])


def test_compiled_after_the_monitor_was_made() -> None:
    """Its passes are then not noticed, which is reported; its graph is not broken."""
    model = Model(1)
    model.layers[0].kept = tuple(torch.zeros(3))
    with sightline.monitor(model) as monitor:
        torch.compile(model, backend="eager", fullgraph=True)(batch())
        with pytest.warns(
            RuntimeWarning, match="no forward pass of Model was seen .* what torch.compile returned"
        ):
            monitor.step()


def test_a_layer_that_is_called_twice() -> None:
    model = Model(1)
    model.layers.append(model.layers[0])
    model.norms.append(model.norms[0])
    assert [layer.name for layer in watched(model, batch())] == ["layers.0", "layers.0#2"]


def test_dead_heads() -> None:
    """Head 0 looks at the first key only; head 2 writes next to nothing; 1 and 3 work."""
    model = Model(1)
    attention = model.layers[0]
    x = batch()
    x[:, :, 0], x[:, 0, 0] = 0, 20.0
    model.norms[0] = nn.Identity()
    with torch.no_grad():
        attention.qkv.weight[:4], attention.qkv.bias[:4] = 0, 10.0
        attention.qkv.weight[16:20], attention.qkv.bias[16:20] = 0, 0
        attention.qkv.weight[16:20, 0] = 0.1  # the first key alone is long
        attention.qkv.weight[40:44] *= 1e-4
        attention.qkv.bias[40:44] *= 1e-4
    (layer,) = watched(model, x)
    agree(layer, **attention.dense())
    assert layer.dead == [0, 2] and layer.sink_mass[0] > 0.99
    (layer,) = watched(model, x, limits=Limits(sink=2.0, context=1e-9, max_logit=1e4))
    assert layer.dead == []


def test_one_key_is_no_dead_head() -> None:
    (layer,) = watched(Model(1), batch(1))
    assert layer.sink_mass == pytest.approx([1.0] * HEADS) and layer.dead == []
    assert all(map(math.isnan, layer.normalized_entropy)) and layer.entropy == pytest.approx(
        [0.0] * HEADS, abs=1e-6
    )

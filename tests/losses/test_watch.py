"""The matrices of a whole model: whose they are, and that gradients through them are right."""

import pytest
import torch
from torch import nn

import sightline
from sightline import losses
from sightline.models import Decoder, DecoderConfig, EncoderDecoder, EncoderDecoderConfig
from sightline.nn import SelfAttention, TransformerEncoder


def decoder(**given):
    options = {"vocabulary": 20, "width": 16, "heads": 4, "layers": 2, "max_positions": 16}
    return Decoder(DecoderConfig(**options | given))


def gradients(loss, model):
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(model.parameters(), found, strict=True)]


@pytest.mark.parametrize(
    "given", [{}, {"kv_heads": 2, "positions": "rotary"}, {"positions": "alibi"}], ids=str
)
def test_gradients_of_a_model(given):
    """Against PyTorch's own through the dense weights, which the model computes with by hand."""
    model = decoder(**given).double()
    ids = torch.randint(20, (2, 9))
    with losses.watch(model) as calls:
        logits = model(ids)
    assert [call.name for call in calls] == [f"decoder.blocks.{i}.self_attention" for i in range(2)]
    assert [call.kind for call in calls] == ["self", "self"] and len(calls) == 2
    loss = logits.square().mean() + losses.entropy(calls, target=0.3)
    values = []
    for call in calls:
        w = call.matrix.dense()
        counts = torch.arange(1, 10).double()
        shares = -(w * w.where(w > 0, 1).log()).sum(-1)[:, :, 1:] / counts[1:].log()
        values.append(((shares - 0.3) ** 2).mean())
    wanted = logits.square().mean() + torch.stack(values).mean()
    torch.testing.assert_close(loss, wanted)
    for mine, other in zip(gradients(loss, model), gradients(wanted, model), strict=True):
        torch.testing.assert_close(mine, other)


def test_finite_differences_of_parameters():
    model = decoder(layers=1).double()
    ids = torch.randint(20, (1, 6))
    weight = model.decoder.blocks[0].self_attention.key.weight

    def loss():
        with losses.watch(model) as calls:
            model(ids)
        return losses.sink_mass(calls)

    gradient = torch.autograd.grad(loss(), weight)[0]
    direction = torch.randn_like(weight)
    with torch.no_grad():
        weight += 1e-5 * direction
        up = loss()
        weight -= 2e-5 * direction
        down = loss()
    torch.testing.assert_close((up - down) / 2e-5, (gradient * direction).sum(), rtol=1e-5, atol=1e-8)


def test_the_model_computes_what_it_computes_anyway():
    model = decoder()
    ids = torch.randint(20, (2, 9))
    plain = gradients(model(ids).square().mean(), model)
    with losses.watch(model) as calls:
        loss = model(ids).square().mean()
    assert calls[0].matrix.requires_grad
    for mine, other in zip(gradients(loss, model), plain, strict=True):
        assert mine.equal(other)


def test_encoder_and_decoder():
    model = EncoderDecoder(EncoderDecoderConfig(vocabulary=20, width=16, heads=2, layers=2, max_positions=16))
    source, target = torch.randint(20, (2, 7)), torch.randint(20, (2, 5))
    with losses.watch(model, layers="decoder.*cross_attention") as calls:
        model(source, target)
    assert [(call.kind, tuple(call.matrix.shape)) for call in calls] == [("cross", (2, 2, 5, 7))] * 2
    assert losses.alignment(calls[0].matrix[:, [1]], [(0, 6)]).requires_grad
    assert calls[calls[1].name] is calls[1]
    with pytest.raises(KeyError, match="no call of 'nope'"):
        calls["nope"]


def test_layers_of_pytorch():
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2, enable_nested_tensor=False
    )
    x = torch.randn(2, 6, 16)
    with (
        pytest.raises(RuntimeError, match=r"no attention of Sightline ran in TransformerEncoder.*accelerate"),
        losses.watch(model),
    ):
        model(x)
    with sightline.sdpa_override(), losses.watch(model) as calls:
        model(x)
    with sightline.accelerate(model), losses.watch(model) as again:
        model(x)
    for one in (calls, again):
        assert [call.name for call in one] == ["layers.0.self_attn", "layers.1.self_attn"]
        assert [call.kind for call in one] == ["self", "self"]
        assert any(g.any() for g in gradients(losses.entropy(one, floor=1.0), model))


def test_a_model_of_transformers():
    transformers = pytest.importorskip("transformers")
    import sightline.huggingface  # noqa: F401

    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=16, vocab_size=20, n_positions=16, attn_implementation="sightline"
    )
    model = transformers.GPT2LMHeadModel(config).train()
    with losses.watch(model) as calls:
        model(torch.randint(20, (2, 9)))
    assert [call.name for call in calls] == ["transformer.h.0.attn", "transformer.h.1.attn"]
    losses.sink_mass(calls).backward()
    assert model.transformer.h[1].attn.c_attn.weight.grad.any()


def test_other_models_and_other_blocks_are_left_out():
    model, other = SelfAttention(16, 2), SelfAttention(16, 2)
    x = torch.randn(1, 4, 16)
    with losses.watch(other) as outer, losses.watch(model) as inner:
        model(x)
        other(x)
        other(x)
    model(x)
    assert (len(inner), len(outer)) == (1, 2)
    with pytest.raises(RuntimeError, match="was used before"), inner:
        pass


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(reentrant):
    layer = SelfAttention(16, 2)
    x = torch.randn(1, 5, 16, requires_grad=True)
    with losses.watch(layer) as calls:
        output = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=reentrant)
        output.square().mean().backward(retain_graph=True)
    assert len(calls) == 1
    if reentrant:  # its first pass has no gradients
        with pytest.raises(ValueError, match="A: detached"):
            losses.sink_mass(calls)
    else:
        losses.sink_mass(calls).backward()


def test_gradients_with_dropout():
    """The context's are of the weights that are left, those of the entropy of all."""
    layer = SelfAttention(16, 2, dropout=0.5).double()
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    torch.manual_seed(1)
    with losses.watch(layer) as calls:
        output = layer(x)
    found = gradients(output.square().mean() + losses.entropy(calls, target=0.5), layer)
    torch.manual_seed(1)
    plain = gradients(layer(x).square().mean(), layer)
    query, (key, _) = layer.queries(x), layer.keys_and_values(x)
    A = sightline.AttentionMatrix(query, key, detach=False)
    of_entropy = gradients(losses.entropy(A, target=0.5), layer)
    for mine, one, other in zip(found, plain, of_entropy, strict=True):
        torch.testing.assert_close(mine, one + other)


@pytest.mark.parametrize("mode", [True, False, "differentiable"])
def test_calls_that_give_their_matrix_anyway(mode):
    q, k, v = (torch.randn(1, 2, 5, 4, requires_grad=True) for _ in range(3))
    plain = sightline.attention(q, k, v, return_matrix=mode)
    model = nn.Module()
    model.forward = lambda: sightline.attention(q, k, v, return_matrix=mode)
    with losses.watch(model) as calls:
        output = model()
    assert calls[0].matrix.requires_grad
    if mode is False:
        assert output.equal(plain)
        return
    assert output[0].equal(plain[0]) and output[1].requires_grad is plain[1].requires_grad is (mode != True)  # noqa: E712
    torch.testing.assert_close(output[1].dense(), plain[1].dense())


def test_a_changed_call_has_no_gradients():
    layer = SelfAttention(16, 2)
    x = torch.randn(1, 5, 16)
    with sightline.intervene(layer) as change:
        change.block(keys=[0])
        with (
            pytest.raises(NotImplementedError, match="leave the call out of the change"),
            losses.watch(layer),
        ):
            layer(x)
        with torch.no_grad(), losses.watch(layer) as calls:
            layer(x)
        assert not calls[0].matrix[..., 0].any()


def test_inside_of_a_trace():
    layer = SelfAttention(16, 2)
    x = torch.randn(1, 5, 16)
    with sightline.trace(layer) as trace, losses.watch(layer) as calls:
        layer(x)
    assert len(trace) == len(calls) == 1 and trace[0].verified and not trace[0].matrix.requires_grad
    torch.testing.assert_close(trace[0].matrix.dense(), calls[0].matrix.dense())
    alone = SelfAttention(16, 2)
    alone.load_state_dict(layer.state_dict())
    with losses.watch(alone) as again:
        alone(x)
    for mine, other in zip(
        gradients(losses.entropy(calls, floor=1.0), layer),
        gradients(losses.entropy(again, floor=1.0), alone),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


def test_autocast():
    layer = SelfAttention(16, 2)
    with torch.autocast("cpu", torch.bfloat16), losses.watch(layer) as calls:
        layer(torch.randn(1, 5, 16))
    assert calls[0].matrix.dtype == torch.bfloat16
    losses.sink_mass(calls).backward()
    assert layer.key.weight.grad.dtype == torch.float32 and layer.key.weight.grad.any()


def test_nested_batches():
    layer = sightline.nn.MultiheadAttention(16, 2, batch_first=True)
    x = torch.nested.nested_tensor([torch.randn(3, 16), torch.randn(5, 16)], layout=torch.jagged)
    with losses.watch(layer) as calls:
        layer(x, x, x)
    assert calls[0].matrix.shape == (1, 2, 8, 8)
    assert any(g.any() for g in gradients(losses.entropy(calls, floor=1.0), layer))


def test_dropout_is_left_out_of_the_matrix():
    layer = SelfAttention(16, 2, dropout=0.5)
    x = torch.randn(1, 5, 16)
    with losses.watch(layer) as calls:
        layer(x)
    torch.testing.assert_close(calls[0].matrix.dense(), layer.eval()(x, return_matrix=True)[1].dense())


def test_a_compiled_model_runs_uncompiled():
    layer = SelfAttention(16, 2)
    compiled = torch.compile(layer, backend="eager")
    for model in (layer, compiled):
        with losses.watch(model) as calls:
            compiled(torch.randn(1, 4, 16))
        assert [call.name for call in calls] == [""]
        assert losses.sink_mass(calls).requires_grad


def test_bad_arguments_and_errors():
    model = TransformerEncoder(2, 16, 2)
    with pytest.raises(TypeError, match="model: must be a torch.nn.Module, got None"):
        losses.watch(None)
    with pytest.raises(ValueError, match="layers: the model has no module 'nope'"):
        losses.watch(model, layers="nope")
    with pytest.raises(ValueError, match="layers: there is no layer 7"), losses.watch(model, layers=7):
        model(torch.randn(1, 4, 16))
    with pytest.raises(ValueError, match="x: expected"), losses.watch(model):
        model(torch.randn(4, 16))
    from sightline.call import listeners

    assert not listeners.anybody()

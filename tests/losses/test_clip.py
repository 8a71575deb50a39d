"""QK-Clip: where a score has passed the limit it is at the limit afterwards, and nothing else changes."""

import copy
import math

import pytest
import torch
from torch import nn

import sightline
from sightline import losses
from sightline.nn import CrossAttention, Rotary, SelfAttention, TransformerEncoder

TAU = 5.0


def scores(layer, x, **given):
    """The scaled scores of a layer in float64, by its own projections, -inf where hidden: [B,H,N,M]."""
    return of_matrix(layer(x, return_matrix=True, **given)[1])


def of_matrix(A):
    whole = A.scores(stage="scaled").double()
    return whole.masked_fill(A.scores(stage="masked") == -torch.inf, -torch.inf)


def grown(layer, by=None):
    """With large queries, head by head."""
    by = torch.tensor([40.0, 1.0, 8.0, 0.2]) if by is None else by
    rows = by.repeat_interleave(layer.head_width)
    layer.query.weight.data *= rows[:, None]
    if layer.query.bias is not None:
        nn.init.normal_(layer.query.bias).data.mul_(rows)
        nn.init.normal_(layer.key.bias)
    return layer


def clipped(layer, *inputs, tau=TAU, **given):
    with losses.QKClip(layer, tau) as clip:
        layer(*inputs, **given)
        return clip.step()


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize(
    "mask", [None, sightline.causal(), sightline.window(3, 0) & sightline.causal(align=-2)]
)
@torch.no_grad()
def test_each_head_is_at_the_limit_or_as_it_was(kv_heads, rotary, mask):
    layer = grown(SelfAttention(32, 4, kv_heads=kv_heads, rotary=Rotary(8) if rotary else None)).double()
    x = torch.randn(2, 9, 32, dtype=torch.float64)
    before = scores(layer, x, mask=mask)
    most = before.amax((0, 2, 3))
    found = clipped(layer, x, mask=mask)
    assert found[0].heads == tuple((most > TAU).nonzero().flatten().tolist())
    torch.testing.assert_close(torch.tensor(found[0].logits), most[most > TAU].float(), rtol=1e-5, atol=1e-5)
    assert 0 < len(found[0].heads) < 4
    after = scores(layer, x, mask=mask)
    factors = (TAU / most).clamp(max=1)
    torch.testing.assert_close(after, before * factors[:, None, None], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(after.amax((0, 2, 3)), most.clamp(max=TAU), rtol=1e-5, atol=1e-6)
    assert (after.amax((0, 2, 3)) <= TAU * (1 + 1e-5)).all()
    assert clipped(layer, x, mask=mask, tau=TAU * 1.001) == []


@torch.no_grad()
def test_both_projections_are_scaled_alike():
    """As the paper has it: the square root of the factor each, and weights of other heads keep their bits."""
    layer = grown(SelfAttention(32, 4))
    x = torch.randn(1, 9, 32)
    most = scores(layer, x).amax((0, 2, 3))
    before = copy.deepcopy(layer.state_dict())
    clipped(layer, x)
    root = (TAU / most).clamp(max=1).sqrt().float().repeat_interleave(8)
    for name in ("query", "key"):
        torch.testing.assert_close(getattr(layer, name).weight, before[f"{name}.weight"] * root[:, None])
        torch.testing.assert_close(getattr(layer, name).bias, before[f"{name}.bias"] * root)
        same = root == 1
        assert same.any() and getattr(layer, name).weight[same].equal(before[f"{name}.weight"][same])
    for name in ("value.weight", "value.bias", "output.weight", "output.bias"):
        assert layer.state_dict()[name].equal(before[name])


@torch.no_grad()
def test_cross_attention_and_no_biases():
    layer = grown(CrossAttention(32, 4, memory_width=24, bias=False))
    x, memory = torch.randn(2, 5, 32), torch.randn(2, 7, 24)
    found = clipped(layer, x, memory)
    assert found and scores(layer, x, memory=memory).amax() <= TAU * (1 + 1e-5)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_layers_of_pytorch_once_accelerated(packed, bias):
    torch_layer = nn.MultiheadAttention(
        32, 4, kdim=None if packed else 24, bias=bias, add_bias_kv=bias, batch_first=True
    )
    weight = torch_layer.in_proj_weight[:32] if packed else torch_layer.q_proj_weight
    weight *= 60
    if bias:
        nn.init.normal_(torch_layer.in_proj_bias)
    model = nn.ModuleDict({"attention": torch_layer})
    with pytest.raises(
        ValueError, match=r"no attention layer of sightline.nn.*sightline.accelerate\(model\)"
    ):
        losses.QKClip(model)
    with sightline.accelerate(model):
        x, memory = torch.randn(2, 9, 32), torch.randn(2, 9, 32 if packed else 24)
        value = torch.randn(2, 9, 32)
        before = of_matrix(torch_layer(x, memory, value, average_attn_weights=False)[1])
        with losses.QKClip(model, TAU) as clip:
            torch_layer(x, memory, value)
            assert clip.step()[0].name == "attention"
        after = of_matrix(torch_layer(x, memory, value, average_attn_weights=False)[1])
    factors = (TAU / before.amax((0, 2, 3))).clamp(max=1)
    torch.testing.assert_close(after, before * factors[:, None, None], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bias", ["alibi", "relative", "dense", "hides"])
@torch.no_grad()
def test_scores_before_the_bias_count(bias):
    layer = grown(SelfAttention(32, 4))
    x = torch.randn(2, 9, 32)
    whole = torch.randn(1, 4, 9, 9) * 30
    term = {
        "alibi": sightline.alibi(torch.rand(4)),
        "relative": sightline.relative(torch.randn(4, 7) * 30),
        "dense": whole,
        "hides": whole.masked_fill(whole > 0, -torch.inf),
    }[bias]
    most = scores(layer, x, bias=term).amax((0, 2, 3))
    with losses.QKClip(layer, TAU) as clip:
        layer(x, bias=term)
        torch.testing.assert_close(clip.largest[""].double(), most, rtol=1e-5, atol=1e-5)
        clip.step()
    torch.testing.assert_close(
        scores(layer, x, bias=term).amax((0, 2, 3)), most.clamp(max=TAU), rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_bfloat16_within_its_rounding():
    layer = grown(SelfAttention(64, 4)).bfloat16()
    x = torch.randn(2, 9, 64, dtype=torch.bfloat16)
    clipped(layer, x)
    assert scores(layer, x).amax() <= TAU * 1.02


@torch.no_grad()
def test_the_largest_of_all_passes_since_the_last_step():
    layer = grown(SelfAttention(32, 4))
    small, large = torch.randn(1, 4, 32), 3 * torch.randn(1, 6, 32)
    most = torch.maximum(scores(layer, small).amax((0, 2, 3)), scores(layer, large).amax((0, 2, 3)))
    with losses.QKClip(layer, 1e6) as clip:
        layer(large)
        layer(small)
        torch.testing.assert_close(clip.largest[""].double(), most, rtol=1e-5, atol=1e-5)
        assert clip.step() == [] and clip.largest == {}
        layer.eval()(large)
        assert clip.largest == {}
        with pytest.raises(
            RuntimeError, match="no attention of the model ran in training mode since the last step"
        ):
            clip.step()


def test_training_is_the_same_where_nothing_is_clipped():
    torch.manual_seed(0)
    model = TransformerEncoder(2, 16, 2)
    other = copy.deepcopy(model)
    for one in (model, other):
        optimizer = torch.optim.AdamW(one.parameters(), lr=1e-2)
        clip = losses.QKClip(one, 1000.0) if one is model else None
        for step in range(3):
            x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(step))
            one(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            assert clip is None or clip.step() == []
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert mine.equal(theirs)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(reentrant):
    layer = grown(SelfAttention(32, 4))
    x = torch.randn(1, 6, 32, requires_grad=True)
    with losses.QKClip(layer, TAU) as clip:
        torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=reentrant).square().mean().backward()
        assert clip.step()[0].heads


def test_names_layers_copies_and_the_end():
    model = TransformerEncoder(3, 16, 2)
    with losses.QKClip(model, 1e-9, layers="blocks.1") as clip:
        copied = copy.deepcopy(model)
        copied(torch.randn(1, 4, 16))
        assert clip.largest == {}
        model(torch.randn(1, 4, 16))
        assert [one.name for one in clip.step()] == ["blocks.1.self_attention"]
        assert repr(clip) == "QKClip(1 layers, tau=1e-09)"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    with losses.QKClip(model, 1.0) as clip, pytest.raises(ValueError, match="x: expected"):
        model(torch.randn(4, 16))
    from sightline.call import listeners

    assert not listeners.anybody()


def test_padding_that_sees_nothing():
    layer = SelfAttention(16, 2)
    nothing = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    with losses.QKClip(layer, 1.0) as clip:
        layer(torch.randn(1, 4, 16), mask=nothing)
        assert clip.largest[""].tolist() == [-math.inf] * 2
        assert clip.step() == []


def test_bad_models():
    model = TransformerEncoder(2, 16, 2)
    with pytest.raises(TypeError, match="model: must be a torch.nn.Module"):
        losses.QKClip(lambda x: x)
    with pytest.raises(ValueError, match="tau: must be above 0, got 0"):
        losses.QKClip(model, 0)
    with pytest.raises(ValueError, match="layers: the model has no module 'nope'"):
        losses.QKClip(model, layers="nope")
    model.blocks[1].self_attention.key = model.blocks[0].self_attention.key
    with pytest.raises(
        ValueError, match="'blocks.0.self_attention' and 'blocks.1.self_attention' share a projection"
    ):
        losses.QKClip(model)
    model.blocks[1].self_attention.key = nn.Sequential(nn.Linear(16, 16))
    with pytest.raises(ValueError, match="key projection is a Sequential whose weights cannot be scaled"):
        losses.QKClip(model)
    layer = SelfAttention(16, 2)
    layer.query.weight.data[8:] = torch.inf
    with losses.QKClip(layer) as clip:
        layer(torch.randn(1, 4, 16))
        before = layer.key.weight.clone()
        with pytest.raises(RuntimeError, match="head 1 of the model has scores that are not finite"):
            clip.step()
        assert layer.key.weight.equal(before)


def _one_of_two(rank, folder, shared):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    layer = grown(SelfAttention(32, 4))
    with losses.QKClip(layer, TAU) as clip:
        layer(torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(rank)))
        clip.step()
    shared[rank] = layer.query.weight.detach().numpy().tolist()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_clip_alike(tmp_path):
    import torch.multiprocessing as processes

    with processes.get_context("spawn").Manager() as manager:
        shared = manager.dict()
        processes.spawn(_one_of_two, (str(tmp_path), shared), nprocs=2)
        first, second = (torch.tensor(shared[rank]) for rank in (0, 1))
    assert first.equal(second)
    alone = grown_alone()
    assert not first.equal(alone)


def grown_alone():
    """What the first process would have without the second."""
    torch.manual_seed(0)
    layer = grown(SelfAttention(32, 4))
    clipped(layer, torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(0)))
    return layer.query.weight.detach()


@torch.no_grad()
def test_the_largest_of_all_processes_counts(monkeypatch):
    """With another process played: its head 1 has passed the limit, and none of ours has."""
    layer = grown(SelfAttention(32, 4))
    x = torch.randn(1, 6, 32)
    before = scores(layer, x)

    def all_reduce(tensor, op, group):
        assert op == torch.distributed.ReduceOp.MAX and group == "these"
        tensor.copy_(torch.maximum(tensor, torch.tensor([0.0, 2e6, 0.0, -torch.inf])))

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    with losses.QKClip(layer, 1e6, group="these") as clip:
        layer(x)
        assert clip.step() == [losses.Clipped("", (1,), (2e6,))]
    before[:, 1] /= 2
    torch.testing.assert_close(scores(layer, x), before, rtol=1e-5, atol=1e-6)

"""Models as they stand, accelerated and back: the same numbers, parameters and checkpoints."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import sightline
from sightline.nn import Linear, MultiheadAttention


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64, bias=False)).eval()


@pytest.fixture(params=["auto", "pytorch", "onednn", "float32"])
def way(request):
    with sightline.product(request.param):
        yield request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_and_gradients_stay(way, dtype):
    if way == "onednn" and sightline.products.ways.WAYS[way].why_not(dtype):
        pytest.skip("oneDNN does not multiply this dtype here")
    before, after = model().to(dtype), None
    after = copy.deepcopy(before)
    sightline.accelerate(after)
    x = torch.randn(300, 64).to(dtype)
    outputs = [one(x) for one in (before, after)]
    gradients = [
        torch.autograd.grad(output.float().pow(2).sum(), tuple(one.parameters()))
        for one, output in zip((before, after), outputs, strict=True)
    ]
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    for ours, theirs in [(outputs[1], outputs[0]), *zip(gradients[1], gradients[0], strict=True)]:
        torch.testing.assert_close(
            ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.detach().abs().max())
        )


def test_parameters_are_the_same_objects_and_it_can_be_undone():
    one = model()
    before, keys = list(one.parameters()), list(one.state_dict())
    acceleration = sightline.accelerate(one)
    assert acceleration.linear == ("0", "2") and not acceleration.left
    assert type(one[0]) is Linear
    assert all(a is b for a, b in zip(before, one.parameters(), strict=True))
    assert list(one.state_dict()) == keys
    model().load_state_dict(one.state_dict())
    acceleration.undo(), acceleration.undo()
    assert type(one[0]) is nn.Linear and type(one[2]) is nn.Linear
    with sightline.accelerate(one):
        assert type(one[0]) is Linear
    assert type(one[0]) is nn.Linear


def test_accelerated_models_copy_and_pickle():
    one = model()
    sightline.accelerate(one)
    x = torch.randn(3, 64)
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert torch.equal(other(x), one(x))
    assert sightline.accelerate(one).linear == ()  # nothing is left to do


def test_training_goes_on_with_the_same_optimizer():
    torch.manual_seed(1)
    one, other = model(), model()
    other.load_state_dict(one.state_dict())
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-2) for m in (one, other)]
    x = torch.randn(40, 64)
    for step in range(6):
        if step == 3:
            acceleration = sightline.accelerate(other)
        for m, optimizer in zip((one, other), optimizers, strict=True):
            optimizer.zero_grad()
            m(x).pow(2).mean().backward()
            optimizer.step()
    acceleration.undo()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


class Own(nn.Linear):
    def forward(self, input):
        return super().forward(input) * 2


class Marked(torch.Tensor):
    """Stands for a weight that is quantized or sharded."""


def test_what_is_left_alone_and_why():
    one = nn.ModuleDict(
        {
            "own": Own(4, 4),
            "wide": nn.Linear(4, 4, dtype=torch.float64),
            "elsewhere": nn.Linear(4, 4, device="meta"),
            "hooked": nn.Linear(4, 4),
            "replaced": nn.Linear(4, 4),
            "marked": nn.Linear(4, 4),
            "normed": nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)),
            "plain": nn.Linear(4, 4),
        }
    )
    one["hooked"].register_forward_hook(lambda *_: None)
    one["replaced"].forward = lambda x: x
    one["marked"].weight = nn.Parameter(torch.ones(4, 4).as_subclass(Marked))
    acceleration = sightline.accelerate(one)
    assert acceleration.linear == ("plain",)
    reasons = dict(acceleration.left)
    assert reasons["own"] == "a Own may multiply in its own way"
    assert reasons["wide"] == "its dtype is torch.float64"
    assert reasons["elsewhere"] == "it is on meta"
    assert reasons["hooked"] == "it carries hooks"
    assert reasons["replaced"] == "its forward was replaced on the instance"
    assert reasons["marked"] == "its weight is a Marked"
    assert "Parametrized" in reasons["normed"]
    assert "left: wide: its dtype is torch.float64" in str(acceleration)


def test_attention_of_pytorch():
    one = nn.MultiheadAttention(32, 4, batch_first=True)
    x = torch.randn(2, 7, 32)
    before, weights = one(x, x, x)
    acceleration = sightline.accelerate(one)
    assert type(one) is MultiheadAttention and acceleration.attention == ("",)
    after, lazy = one(x, x, x)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.as_tensor(lazy), weights, rtol=1e-4, atol=1e-5)
    acceleration.undo()
    assert type(one) is nn.MultiheadAttention and type(one.out_proj) is not Linear


def test_the_fast_path_of_pytorch_is_told_of():
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, batch_first=True), 1).eval()
    acceleration = sightline.accelerate(encoder)
    assert "fast path" in acceleration.left["layers.0"]
    assert set(acceleration.linear) >= {"layers.0.linear1", "layers.0.linear2"}


def test_no_module():
    with pytest.raises(TypeError, match="model: "):
        sightline.accelerate("bert")

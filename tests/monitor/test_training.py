"""The monitor in a training: it changes nothing, counts rightly, and never gets in the way."""

from __future__ import annotations

import copy
import pickle
import sys
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

import sightline
from sightline.tracing import modules as trace_modules

from .models import HEADS, WIDTH, Model, batch


def trained(model: nn.Module, inputs: list[Any], monitored: bool) -> dict[str, Tensor]:
    """The parameters after one step for each input."""
    torch.manual_seed(1)
    model = copy.deepcopy(model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    monitor = sightline.monitor(model, every=2) if monitored else None
    for one in inputs:
        output = model(**one) if isinstance(one, dict) else model(one)
        loss = output.loss if hasattr(output, "loss") else output.square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if monitor is not None:
            monitor.step()
    if monitor is not None:
        assert monitor.logged == 2 and monitor.last
        monitor.close()
    return {**model.state_dict(), "random": torch.get_rng_state()}


def gpt2(**options: Any) -> nn.Module:
    config = hf.GPT2Config(n_layer=2, n_head=4, n_embd=32, vocab_size=61, n_positions=32, **options)
    return hf.GPT2LMHeadModel(config)


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 32, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


@pytest.mark.parametrize(
    "build", [lambda: Model(dropout=0.2), gpt2, lambda: gpt2(attn_implementation="eager"), encoder]
)
def test_parameters_are_the_same_to_the_last_bit(build: Any) -> None:
    """Dropout included: not one random number is drawn."""
    model = build()
    if isinstance(model, hf.PreTrainedModel):
        inputs = [dict.fromkeys(("input_ids", "labels"), torch.randint(0, 61, (2, 11))) for _ in range(4)]
    else:
        inputs = [batch() for _ in range(4)]
    without, with_it = (trained(model, inputs, monitored) for monitored in (False, True))
    assert without.keys() == with_it.keys()
    for name, tensor in without.items():
        assert torch.equal(tensor, with_it[name]), name


def logged(monitor_of: Any, run: Any) -> list[int]:
    """The steps that reach a function."""
    steps: list[int] = []
    with monitor_of(lambda step, layers: steps.append(step)) as monitor:
        run(monitor)
    return steps


def test_forward_passes_count_in_training_mode_only() -> None:
    model = Model(1)

    def run(_: Any) -> None:
        for _ in range(7):
            model(batch())
            model.eval()
            model(batch())
            model.train()
            with torch.no_grad():
                model(batch())

    assert logged(lambda to: sightline.monitor(model, 3, to), run) == [0, 3, 6]


def test_gradient_accumulation() -> None:
    model = Model(1)

    def run(monitor: Any) -> None:
        for _ in range(5):
            for _ in range(3):
                model(batch())
            monitor.step()

    assert logged(lambda to: sightline.monitor(model, 4, to), run) == [0, 4]
    assert logged(lambda to: sightline.monitor(model, 4, to, start=98), run) == [100]


def test_a_repeated_pass_in_the_backward_pass_does_not_count() -> None:
    model = Model(1)

    def run(_: Any) -> None:
        for _ in range(4):
            x = batch().requires_grad_()
            torch.utils.checkpoint.checkpoint(model, x, use_reentrant=False).sum().backward()

    assert logged(lambda to: sightline.monitor(model, 2, to), run) == [0, 2]


def test_nothing_is_left_behind() -> None:
    model = Model(1)
    with sightline.monitor(model) as monitor:
        model(batch())
        assert trace_modules._open == 0
    assert not model._forward_hooks and not model._forward_pre_hooks
    model(batch())
    monitor.close()
    assert monitor.logged == 0 and "1 layers at 0" in repr(monitor)


def test_copies_and_pickles_of_the_model_are_not_watched() -> None:
    model = Model(1)
    with sightline.monitor(model, 1, lambda step, layers: None) as monitor:
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            twin.train()(batch())
            assert monitor.logged is None
        model(batch())
        assert monitor.logged == 0


class Failing(Model):
    error: BaseException | None = None

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if self.error is not None:
            raise self.error
        return out


@pytest.mark.parametrize("error", [ValueError("bad batch"), KeyboardInterrupt()])
def test_a_pass_that_fails_is_looked_at_when_it_succeeds(error: BaseException) -> None:
    model = Failing(1)
    with sightline.monitor(model, 10) as monitor:
        model.error = error
        with pytest.raises(type(error)):
            model(batch())
        assert monitor.logged is None
        model.error = None
        model(batch())
        assert monitor.logged == 0 and len(monitor.last) == 1
        model.error = error
        with pytest.raises(type(error)):
            model(batch())
    assert trace_modules._open == 0


def test_in_the_handler_of_another_error() -> None:
    model = Model(1)
    with sightline.monitor(model) as monitor:
        try:
            raise ValueError
        except ValueError:
            assert sys.exc_info()[1] is not None
            model(batch())
        assert monitor.logged == 0


def test_two_monitors() -> None:
    model = Model(1)
    with sightline.monitor(model, 1) as first, sightline.monitor(model, 2) as second:
        for _ in range(2):
            model(batch())
        assert (first.logged, second.logged) == (1, 0)


def test_a_model_without_attention() -> None:
    model = nn.Linear(4, 4)
    with sightline.monitor(model, 1) as monitor:
        with pytest.warns(RuntimeWarning, match="no attention was seen in Linear at step 0"):
            model(torch.randn(2, 4))
        model(torch.randn(2, 4))  # once is enough
        assert monitor.last == []


class HeadMask(nn.Module):
    """Weights that are changed after the softmax: not verified."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        weights = (q @ k.mT).softmax(-1) * torch.tensor([1.0, 0, 1, 1]).view(1, HEADS, 1, 1)
        return (weights @ v).transpose(1, 2).flatten(2)


def test_a_layer_that_is_not_verified_is_not_measured() -> None:
    model = Model(2)
    model.layers[1] = HeadMask()
    with sightline.monitor(model, 1) as monitor:
        with pytest.warns(RuntimeWarning, match=r"layers\.1 is not measured: the weights .*training goes on"):
            model(batch())
        model(batch())
        assert [layer.name for layer in monitor.last] == ["layers.0"]


def test_a_failure_of_its_own_does_not_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(sys.modules["sightline.monitoring.training"], "measure_call", broken)
    model = Model(1)
    with sightline.monitor(model, 1) as monitor:
        with pytest.warns(RuntimeWarning, match=r"layers\.0 is not measured: MemoryError: no room"):
            assert model(batch()).shape == (3, 9, WIDTH)
        model(batch())
        monkeypatch.undo()
        model(batch())
        assert monitor.logged == 2 and len(monitor.last) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": len}, "model: expected a torch.nn.Module, got builtin"),
        ({"every": 0}, "every: must be 1 or more, got 0"),
        ({"every": 2.0}, "every: must be an integer"),
        ({"start": -1}, "start: must be 0 or more, got -1"),
        ({"batch_entries": 0}, "batch_entries: must be 1 or more, got 0"),
        ({"limits": {"growth": 2}}, "limits: expected sightline.monitoring.Limits, got dict"),
        ({"layers": "decoder"}, "decoder"),
        ({"to": 5}, "to: expected the path of a CSV file, .* got int"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], message: str) -> None:
    model = Model(1)
    with pytest.raises((TypeError, ValueError), match=message):
        sightline.monitor(**({"model": model} | changes))
    assert not model._forward_hooks

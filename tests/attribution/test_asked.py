"""What cannot be answered is refused, and the message says what can be done."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

import sightline
from attribution.running import lively, tokens, traced
from sightline.models import Decoder, DecoderConfig

TEXT = {"width": 32, "heads": 4, "layers": 2, "vocabulary": 50}


@pytest.fixture
def model():
    return lively(Decoder(DecoderConfig(**TEXT)))


def test_models_that_are_not_known():
    with pytest.raises(
        ValueError, match=r"residual: .*sightline\.models \(Decoder, Encoder, .*from_huggingface"
    ):
        sightline.trace(nn.TransformerEncoderLayer(16, 2), residual=True)
    with pytest.raises(ValueError, match=r"bert, gpt2, bart, marian, vit"):
        sightline.trace(None, residual=True)
    with pytest.raises(TypeError, match="residual: must be True or False"):
        sightline.trace(nn.Linear(2, 2), residual="yes")


def test_nothing_was_recorded(model, tmp_path):
    with torch.no_grad(), sightline.trace(model) as trace:
        model(tokens())
    with pytest.raises(ValueError, match=r"why: .*sightline\.trace\(model, residual=True\)"):
        trace.why(0, 0)
    recorded = traced(model, tokens())
    recorded.save(tmp_path / "x.safetensors")
    for other in (
        sightline.load_trace(tmp_path / "x.safetensors"),
        copy.deepcopy(recorded),
        pickle.loads(pickle.dumps(recorded)),
    ):
        assert len(other) == 2
        with pytest.raises(ValueError, match="copies and saved traces hold none"):
            other.why(0, 0)
    with pytest.raises(ValueError, match="residual: is for calls that are kept, and on_call keeps none"):
        sightline.trace(model, residual=True, on_call=print)


@pytest.mark.parametrize(
    "asked, options, error, message",
    [
        ((9, 0), {}, IndexError, r"trace\[9\]: there are 2 calls"),
        (("nowhere", 0), {}, KeyError, "no attention ran there"),
        ((0, 4), {}, ValueError, r"head: must lie between -4 and 3 \(axis H\), got 4"),
        ((0, 0, 9, 0), {}, ValueError, r"query: must lie between -9 and 8 \(axis N\), got 9"),
        ((0, 0, 0, -10), {}, ValueError, r"key: must lie between -9 and 8 \(axis M\), got -10"),
        ((0, 0, 1.5, 0), {}, TypeError, "query: must be an integer, got 1.5"),
        ((0, 0, None, 3), {}, ValueError, "key: was given without a query"),
        ((0, 0, 3, 3), {"batch": 2}, ValueError, r"batch: must lie between -2 and 1 \(axis B\), got 2"),
        ((0, 0, 3), {"queries": torch.ones(9, dtype=torch.bool)}, ValueError, "queries: choose among all"),
        (
            (0, 0),
            {"queries": torch.ones(8, dtype=torch.bool)},
            ValueError,
            r"queries: shape \[8\] does not fit",
        ),
        ((0, 0), {"queries": torch.zeros(9, dtype=torch.bool)}, ValueError, "none of them sees a key"),
        ((0, 0), {"queries": [True]}, TypeError, "queries: expected a bool tensor"),
        ((0, 0), {"contrast": 1}, TypeError, "contrast: must be True or False"),
    ],
)
def test_what_is_asked_for_is_not_there(model, asked, options, error, message):
    with pytest.raises(error, match=message):
        traced(model, tokens()).why(*asked, **options)


def test_a_query_that_sees_nothing(model):
    hidden = torch.ones(9, 9, dtype=torch.bool)
    hidden[4] = False
    trace = traced(model, tokens(), mask=sightline.dense(hidden))
    with pytest.raises(ValueError, match="query: 4 may look at no key"):
        trace.why(0, 0, 4)
    assert trace.why(0, 0).pairs == 16


def test_dropout_changes_what_is_written():
    model = lively(Decoder(DecoderConfig(**TEXT, dropout=0.1))).train()
    trace = traced(model, tokens())
    with pytest.raises(ValueError, match=r"dropout was on, .* Call model\.eval\(\)"):
        trace.why(1, 0, 3, 2)


def test_several_runs_in_one_block(model):
    with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        model(tokens())
        model(tokens())
    with pytest.raises(ValueError, match=r"18 positions .* N=9 queries .* Trace each run by itself"):
        trace.why(0, 0, 3, 2)
    with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        model(tokens())
        model(tokens(3))
    with pytest.raises(ValueError, match="batches of several sizes"):
        trace.why(0, 0, 3, 2)


def test_weights_that_changed_after_the_trace(model):
    trace = traced(model, tokens())
    with torch.no_grad():
        model.decoder.blocks[0].self_attention.output.weight.mul_(1.5)
    assert trace.why(0, 0, 3, 2).score != 0
    with pytest.raises(
        ValueError, match=r"the sum of the parts differs from the score by .* weights were changed"
    ):
        trace.why(1, 0, 3, 2)
    with pytest.raises(ValueError, match="the sum of the parts differs"):
        trace.why(1, 0)


def test_layers_that_were_hooked(model):
    model.decoder.blocks[0].register_forward_hook(lambda module, given, made: made * 1.1)
    trace = traced(model, tokens())
    with pytest.raises(ValueError, match="layers were replaced or hooked"):
        trace.why(1, 0, 3, 2)


@pytest.mark.parametrize("name", ["query", "output"])
def test_projections_without_a_weight(model, name):
    class Packed(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layers = [layer]

        def forward(self, x):
            return self.layers[0](x)

    for block in model.decoder.blocks:
        setattr(block.self_attention, name, Packed(getattr(block.self_attention, name)))
    trace = traced(model, tokens())
    with pytest.raises(TypeError, match="a projection of this model is a Packed without a floating weight"):
        trace.why(1, 0, 3, 2)


def test_a_layer_that_is_in_no_stack(model):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.other = model, nn.MultiheadAttention(32, 4, batch_first=True)

        def forward(self, ids):
            states = self.model.states(ids)
            return self.other(states, states, states)

    trace = traced(Both().eval(), tokens())
    assert abs(trace.why(1, 0, 3, 2).remainder) < 1e-5
    with pytest.raises(
        ValueError, match=r"layer: 'other' is no attention layer of a stack; these are: 'model\.decoder"
    ):
        trace.why(2, 0, 3, 2)


def test_answers_of_other_heads_do_not_add_up(model):
    trace = traced(model, tokens())
    with pytest.raises(ValueError, match="why: head differs: 0 and 1"):
        trace.why(1, 0) + trace.why(1, 1)
    with pytest.raises(TypeError):
        trace.why(1, 0) + 1
    why = trace.why(1, 0, 3, 2)
    with pytest.raises(ValueError, match="k: must be 1 or more"):
        why.top(0)
    with pytest.raises(ValueError, match="of: there is no 'keys'; known: key, query, pairs"):
        why.top(2, "keys")

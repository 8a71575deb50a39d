"""Changes in the page's runtime against ``sightline.intervene``: logits, weights, and the words that are written."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import sightline
from sightline.interventions.intervention import Intervention
from sightline.interventions.written import Room, make_changes, read_changes
from sightline.models import (
    Decoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    EncoderDecoder,
    EncoderDecoderConfig,
)
from tests.view.live.asking import answers, question
from tests.view.live.test_runtime import SIZE, SOURCE, TARGET, ids, made, near, sides

N, M = len(TARGET), len(SOURCE)
CHANGES: dict[str, list[dict[str, Any]]] = {
    "an edge": [{"kind": "block", "section": "cross", "layer": 1, "head": 2, "queries": [3], "keys": [4]}],
    "edges of all heads": [
        {"kind": "block", "section": "decoder", "layer": 0, "queries": [2, 4], "keys": [1, 2]}
    ],
    "a token": [{"kind": "block", "section": ["encoder", "cross"], "keys": [3]}],
    "the first token": [{"kind": "block", "section": "decoder", "keys": [0]}],
    "a head": [{"kind": "ablate", "section": "encoder", "layer": 1, "head": 3}],
    "a layer": [{"kind": "ablate", "section": "cross", "layer": 0, "how": "zero"}],
    "everything": [{"kind": "ablate"}],
    "a mean": [{"kind": "ablate", "section": "decoder", "layer": 1, "head": 0, "how": "mean"}],
    "a mean, then nothing": [
        {"kind": "ablate", "section": "cross", "layer": 1, "head": 1, "how": "mean"},
        {"kind": "ablate", "section": "cross", "layer": 1},
    ],
    "nothing, then a mean": [
        {"kind": "ablate", "section": "encoder", "layer": 1, "head": 2},
        {"kind": "ablate", "section": "encoder", "layer": 1, "how": "mean"},
    ],
    "uniform weights": [{"kind": "ablate", "section": "decoder", "layer": 0, "head": 1, "how": "uniform"}],
    "half a key": [{"kind": "scale", "section": "encoder", "head": 0, "keys": [2, 5], "by": 0.5}],
    "whole rows": [{"kind": "scale", "section": "encoder", "queries": [2], "by": 3.0}],
    "scaled to nothing": [{"kind": "scale", "section": "cross", "keys": [0], "by": 0}],
    "a weight": [
        {"kind": "set", "section": "cross", "layer": 0, "head": 1, "queries": [2], "keys": [5], "to": 0.8}
    ],
    "weights of a word": [{"kind": "set", "section": "decoder", "keys": [1, 2], "to": 0.3}],
    "all of a row": [{"kind": "set", "section": "encoder", "layer": 1, "queries": [4], "keys": [4], "to": 1}],
    "none of a row": [
        {"kind": "set", "section": "encoder", "layer": 1, "queries": [4], "keys": [4], "to": 0}
    ],
    "several": [
        {"kind": "block", "section": "cross", "layer": 0, "keys": [1]},
        {"kind": "ablate", "section": "cross", "layer": 0, "head": 2, "how": "uniform"},
        {"kind": "set", "section": "cross", "layer": 0, "head": 2, "queries": [1], "keys": [0], "to": 0.6},
        {"kind": "scale", "section": "cross", "layer": 0, "keys": [0, 3], "by": 2.5},
        {"kind": "set", "section": "decoder", "layer": 1, "head": 0, "queries": [5], "keys": [0], "to": 0.5},
    ],
}


def rooms(model: Any) -> dict[str, Room]:
    config = model.config
    if isinstance(model, Encoder):
        return {"encoder": Room(config.layers, config.heads, M, M)}
    own = {"decoder": Room(config.layers, config.heads, N, N)}
    if isinstance(model, Decoder):
        return own
    encoder = Room(config.layers, config.heads, M, M)
    return {"encoder": encoder, **own, "cross": Room(config.layers, config.heads, N, M)}


def layers_of(model: Any) -> dict[str, list[int]]:
    """The layers of each section as ``intervene`` counts them."""
    count = model.config.layers
    if not isinstance(model, EncoderDecoder):
        return {name: list(range(count)) for name in rooms(model)}
    return {
        "encoder": list(range(count)),
        "decoder": [count + 2 * at for at in range(count)],
        "cross": [count + 2 * at + 1 for at in range(count)],
    }


def fitting(model: Any) -> dict[str, list[dict[str, Any]]]:
    """The changes that are about this model."""
    there = set(rooms(model))
    named = {name: [{"section": None, **one} for one in changes] for name, changes in CHANGES.items()}

    def sections(one: dict[str, Any]) -> set[str]:
        given = one["section"]
        return there if given is None else {given} if isinstance(given, str) else set(given)

    return {
        name: changes for name, changes in named.items() if all(sections(one) <= there for one in changes)
    }


def expected(model: Any, changes: list[dict[str, Any]]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits, and the weights of each call by the module's name."""
    inputs = [ids(each) for each in sides(model).values() if each is not None]
    with torch.no_grad(), sightline.intervene(model) as change, sightline.trace(model) as trace:
        make_changes(change, read_changes(changes, rooms(model)), layers_of(model))
        logits = model(*inputs)
    return logits, {call.name: call.matrix.dense() for call in trace}


CONFIGS = {
    "rotary, grouped": EncoderDecoderConfig(**SIZE, layers=2, positions="rotary", kv_heads=2, copying=True),
    "an encoder": EncoderConfig(**SIZE, layers=2, head="classification", classes=3, window=3),
    "a decoder": DecoderConfig(**SIZE, layers=2, window=4, positions="alibi"),
    "a decoder with a table": DecoderConfig(**SIZE, layers=2, positions="relative"),
}


QUICK = ["rotary, grouped"]
OTHERS = [name for name in CONFIGS if name not in QUICK]


@pytest.mark.parametrize(
    "names", [QUICK, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["one", "others"]
)
def test_changes_are_those_of_intervene(names, tmp_path):
    models = [made(CONFIGS[name]) for name in names]
    asked = [
        [{**sides(model), "changes": changes} for changes in fitting(model).values()] for model in models
    ]
    got = answers(tmp_path, [question(model, *each) for model, each in zip(models, asked, strict=True)])
    for name, model, of_model in zip(names, models, got, strict=True):
        plain, _ = expected(model, [{"kind": "scale", "by": 1.0}])
        for (what, changes), answer in zip(fitting(model).items(), of_model, strict=True):
            logits, matrices = expected(model, changes)
            assert not torch.equal(logits, plain) or what == "whole rows", (name, what)
            near(answer["logits"], logits)
            for call in answer["calls"]:
                near(call["weights"], matrices[call["name"]])


SEARCHES = [
    {"newTokens": 9, "beams": 1, "lengthPenalty": 1.0},
    {"newTokens": 7, "beams": 3, "lengthPenalty": 1.0},
]


@pytest.mark.slow
def test_other_words_are_written(tmp_path):
    tokens = {"pad": 0, "start": 1, "end": 2}
    models = [
        made(EncoderDecoderConfig(**SIZE, layers=2, positions="sinusoidal", **tokens)),
        made(DecoderConfig(**SIZE, layers=2, positions="rotary", kv_heads=2, window=4, **tokens)),
    ]
    asked = [
        [
            {**sides(model), "options": search, "changes": changes}
            for changes in fitting(model).values()
            for search in SEARCHES
        ]
        for model in models
    ]
    got = answers(tmp_path, [question(model, *each) for model, each in zip(models, asked, strict=True)])
    differ = 0
    for model, each, of_model in zip(models, asked, got, strict=True):
        for ask, answer in zip(each, of_model, strict=True):
            with Intervention(model, strict=False) as change:
                make_changes(change, read_changes(ask["changes"], rooms(model)), layers_of(model))
                words = generated(model, ask["options"])
            assert answer["ids"] == words, ask
            differ += words != generated(model, ask["options"])
    assert differ > 5


def generated(model: Any, options: dict[str, Any]) -> list[int]:
    chosen = {
        "new_tokens": options["newTokens"],
        "beams": options["beams"],
        "length_penalty": options["lengthPenalty"],
    }
    with torch.no_grad():
        if isinstance(model, EncoderDecoder):
            return model.generate(ids(SOURCE), prefix=ids(TARGET[1:]), **chosen).lists()[0]
        return model.generate(ids(TARGET), **chosen).lists()[0]


def test_the_model_of_the_box(tmp_path):
    pipeline = sightline.pipeline("translation")
    model, tokenizer = pipeline.model, pipeline.task.tokenizer
    source = [*tokenizer.encode("The cat sat on the mat.").ids, model.config.end]
    target = [model.config.start, *tokenizer.encode("Die Katze saß auf der Matte.").ids]
    last = model.config.decoder_layers or model.config.layers
    cases = [
        [{"kind": "block", "section": ["encoder", "cross"], "keys": [1]}],
        [{"kind": "ablate", "section": "cross", "layer": last - 1}],
        [{"kind": "ablate", "section": "encoder", "layer": 0, "head": 2}],
        [{"kind": "set", "section": "cross", "layer": 0, "head": 0, "queries": [2], "keys": [1], "to": 0.9}],
    ]
    heads = model.config.heads
    room = {
        "encoder": Room(model.config.layers, heads, len(source), len(source)),
        "decoder": Room(last, heads, len(target), len(target)),
        "cross": Room(last, heads, len(target), len(source)),
    }
    first = model.config.layers
    layers = {
        "encoder": list(range(first)),
        "decoder": [first + 2 * at for at in range(last)],
        "cross": [first + 2 * at + 1 for at in range(last)],
    }
    asked = [{"source": source, "target": target, "changes": changes} for changes in cases]
    (got,) = answers(tmp_path, [question(model, *asked)])
    for changes, answer in zip(cases, got, strict=True):
        with torch.no_grad(), sightline.intervene(model) as change:
            make_changes(change, read_changes(changes, room), layers)
            logits = model(ids(source), ids(target))
        near(answer["logits"], logits)


WRONG = {
    "must be an object whose kind is one of block, scale, set, ablate": {"kind": "cut"},
    "by: block knows no such field": {"kind": "block", "by": 1},
    "queries: must be null or a list of integers": {"kind": "block", "queries": [1.5]},
    "keys: must be null or a list of integers": {"kind": "block", "keys": []},
    "by: must be a number from 0": {"kind": "scale", "by": -1},
    "to: must be a number from 0 to 1, got 2": {"kind": "set", "to": 2},
    "how: must be one of zero, mean, uniform": {"kind": "ablate", "how": "noise"},
}


@pytest.mark.parametrize("message", WRONG)
def test_both_sides_refuse_the_same(message):
    with pytest.raises(ValueError, match=message):
        read_changes([WRONG[message]], {"encoder": Room(2, 4, 9, 9)})

"""Saved models: equal again, whole or not there, and clear about what is wrong with a folder."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from importlib import resources

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sightline.models import (
    CheckpointError,
    Decoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    EncoderDecoder,
    EncoderDecoderConfig,
    SpeechEncoder,
    SpeechEncoderConfig,
    VisionEncoder,
    VisionEncoderConfig,
    from_pretrained,
    load_tokenizer,
)
from sightline.models.eight_bits import eight_bits, on_grid
from sightline.models.former_fields import FORMER_FIELDS
from sightline.models.saving import WEIGHTS, save, stored

SMALL = {"width": 16, "heads": 2, "layers": 1}
CONFIGS = {
    Encoder: EncoderConfig(**SMALL, vocabulary=11),
    Decoder: DecoderConfig(**SMALL, vocabulary=11, start=1, end=2),
    EncoderDecoder: EncoderDecoderConfig(**SMALL, vocabulary=11, start=1, end=2),
    VisionEncoder: VisionEncoderConfig(**SMALL, image_size=8, patch_size=4),
    SpeechEncoder: SpeechEncoderConfig(**SMALL, features=5),
}
IDS = torch.arange(1, 7).view(1, 6)
INPUTS = {
    Encoder: (IDS,),
    Decoder: (IDS,),
    EncoderDecoder: (IDS, IDS),
    VisionEncoder: (torch.ones(1, 3, 8, 8),),
    SpeechEncoder: (torch.ones(1, 9, 5),),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_a_loaded_model_is_the_same(kind, tmp_path):
    model = kind(CONFIGS[kind]).eval()
    model.save_pretrained(tmp_path / "deep" / "model")
    for loaded in (
        kind.from_pretrained(tmp_path / "deep" / "model"),
        from_pretrained(tmp_path / "deep" / "model"),
    ):
        assert type(loaded) is kind and loaded.config == CONFIGS[kind] and not loaded.training
        assert torch.equal(loaded(*INPUTS[kind]), model(*INPUTS[kind]))
    assert sorted(os.listdir(tmp_path / "deep")) == ["model"]


def test_dtype_a_new_head_and_other_dropout(tmp_path):
    model = Encoder(CONFIGS[Encoder]).bfloat16()
    model.save_pretrained(tmp_path / "m")
    assert Encoder.from_pretrained(tmp_path / "m").embedding.tokens.weight.dtype == torch.bfloat16
    tuned = Encoder.from_pretrained(tmp_path / "m", head="classification", classes=3, dropout=0.2)
    assert tuned(IDS).shape == (1, 3) and tuned.config.dropout == 0.2
    assert torch.equal(tuned.embedding.tokens.weight, model.embedding.tokens.weight)


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
def test_eight_bits(kind, tmp_path):
    """What is read is what was saved, to half a step of its row's 127 on either side; it stays that."""
    torch.manual_seed(0)
    model = kind(CONFIGS[kind]).eval()
    model.save_pretrained(tmp_path / "a", dtype=torch.int8)
    loaded = kind.from_pretrained(tmp_path / "a")
    for name, tensor in model.state_dict().items():
        read = loaded.state_dict()[name]
        step = (
            tensor.flatten(1).abs().amax(1).view(-1, *[1] * (tensor.dim() - 1)) / 127
            if tensor.dim() > 1
            else 0
        )
        assert read.dtype == torch.float32 and bool(((read - tensor).abs() <= 0.51 * step).all()), name
        assert torch.equal(read, stored(tensor, torch.int8)), name
    loaded.save_pretrained(tmp_path / "b", dtype=torch.int8)
    first, second = (load_file(tmp_path / each / WEIGHTS) for each in "ab")
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert any(tensor.dtype == torch.int8 for tensor in first.values())


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1e-6, 1.0, 1e30]))
def test_numbers_on_the_grid_stay(seed, size):
    tensor = torch.randn(5, 7, generator=torch.Generator().manual_seed(seed)) * size
    tensor[2] = 0
    held = eight_bits(tensor)
    assert torch.equal(held.numbers.abs().amax(1), torch.tensor([127, 127, 0, 127, 127], dtype=torch.int8))
    again = on_grid(held.tensor())
    assert again is not None
    assert torch.equal(again.numbers, held.numbers) and torch.equal(again.scales, held.scales)
    assert not eight_bits(tensor * (1e-37 / size)).numbers.any()
    assert on_grid(tensor) is None and on_grid(held.tensor()[0]) is None


def test_eight_bits_without_scales_are_refused(tmp_path):
    Decoder(CONFIGS[Decoder]).save_pretrained(tmp_path / "m", dtype=torch.int8)
    file = tmp_path / "m" / WEIGHTS
    with safe_open(file, framework="pt") as held:
        header, tensors = held.metadata(), {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
    tensors.pop("embedding.tokens.weight:scales")
    save_file(tensors, file, header)
    with pytest.raises(CheckpointError, match=r"embedding\.tokens\.weight has 8 bits, and no scale for each"):
        Decoder.from_pretrained(tmp_path / "m")


def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    folder = tmp_path / "m"
    model = Decoder(CONFIGS[Decoder]).eval()
    monkeypatch.setattr(os, "replace", _broken)
    with pytest.raises(OSError, match="disk"):
        model.save_pretrained(folder)
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    model.save_pretrained(folder)
    before = model(IDS)
    torch.nn.init.ones_(model.embedding.tokens.weight)
    monkeypatch.setattr(os, "replace", _broken)
    with pytest.raises(OSError, match="disk"):
        model.save_pretrained(folder)
    assert torch.equal(Decoder.from_pretrained(folder)(IDS), before)
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]


def _broken(*_):
    raise OSError("the disk is full")


def test_a_tokenizer_travels_along(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    model, folder = Decoder(CONFIGS[Decoder]), tmp_path / "m"
    model.save_pretrained(folder, tokenizer)
    model.save_pretrained(folder)  # keeps it
    assert load_tokenizer(folder).encode("b").ids == [1]
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not the tokenizer that was saved"):
        load_tokenizer(folder)
    with pytest.raises(ValueError, match="tokenizer: expected a tokenizers.Tokenizer"):
        model.save_pretrained(folder, 3)


def _edited(folder, **changes):
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**described, **changes}))


def _other_weights(folder):
    other = replace(CONFIGS[Decoder], hidden=20)
    Decoder(other).save_pretrained(folder.parent / "other")
    os.replace(folder.parent / "other" / "model.safetensors", folder / "model.safetensors")


WRONG = {
    "no folder": (lambda f: os.rename(f, f.parent / "x"), "there is no such folder"),
    "no config": (
        lambda f: os.unlink(f / "config.json"),
        "config.json is missing; this is not a saved model",
    ),
    "no weights": (
        lambda f: os.unlink(f / "model.safetensors"),
        "model.safetensors is missing; .* only in part",
    ),
    "cut off": (
        lambda f: os.truncate(f / "model.safetensors", 900),
        "is truncated or not a safetensors file",
    ),
    "cut config": (lambda f: os.truncate(f / "config.json", 40), "config.json: is not valid JSON"),
    "of transformers": (
        lambda f: (f / "config.json").write_text('{"model_type": "bert"}'),
        "use from_huggingface",
    ),
    "newer": (lambda f: _edited(f, version=2), "has version 2, this one reads 1"),
    "edited": (lambda f: _edited(f, model="Encoder"), "come from different saves, or one was edited"),
    "two saves": (_other_weights, "come from different saves"),
    "a pickle": (lambda f: torch.save({}, f / "model.safetensors"), "is truncated or not a safetensors file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_folder(name, tmp_path):
    spoil, message = WRONG[name]
    Decoder(CONFIGS[Decoder]).save_pretrained(tmp_path / "m")
    spoil(tmp_path / "m")
    with pytest.raises(CheckpointError, match=message):
        Decoder.from_pretrained(tmp_path / "m")


def test_another_class_is_refused(tmp_path):
    Decoder(CONFIGS[Decoder]).save_pretrained(tmp_path / "m")
    with pytest.raises(CheckpointError, match="holds a Decoder, not a Encoder"):
        Encoder.from_pretrained(tmp_path / "m")


FORMER = {
    Encoder: {"segments": 2, "head": "classification", "classes": 3},
    Decoder: {"start": 1, "end": 2},
    EncoderDecoder: {"start": 1, "end": 2, "copying": True},
    VisionEncoder: {"image_size": 8, "patch_size": 4, "vocabulary": 0},
    SpeechEncoder: {"features": 5, "vocabulary": 0},
}


def _saved_as_before(kind, folder, **foreign):
    """A model as it was saved when one configuration had the settings of all models."""
    own = {**SMALL, "vocabulary": 11, **FORMER[kind]}
    settings = {**FORMER_FIELDS, **own}
    model = kind(kind.config_class.from_dict(settings)).eval()
    save(model, {**model.config.to_dict(), **settings, **foreign}, folder)
    return model


@pytest.mark.parametrize("kind", FORMER)
def test_models_of_the_one_configuration_of_all_load(kind, tmp_path):
    model = _saved_as_before(kind, tmp_path / "m")
    named = json.loads((tmp_path / "m" / "config.json").read_text())["config"]
    assert FORMER_FIELDS.keys() <= named.keys()
    loaded = from_pretrained(tmp_path / "m")
    assert type(loaded) is kind and loaded.config == model.config
    assert torch.equal(loaded(*INPUTS[kind]), model(*INPUTS[kind]))


def test_settings_of_other_models_that_say_something_are_refused(tmp_path):
    _saved_as_before(Decoder, tmp_path / "m", segments=2)
    with pytest.raises(
        CheckpointError,
        match=r"config.json: segments: 2 belongs to another model; DecoderConfig has no segments",
    ):
        from_pretrained(tmp_path / "m")
    _saved_as_before(Decoder, tmp_path / "n", colour="red")
    with pytest.raises(
        CheckpointError, match=r"config.json: config: unknown colour. Was it written by a newer"
    ):
        from_pretrained(tmp_path / "n")
    Decoder(CONFIGS[Decoder]).save_pretrained(tmp_path / "o")
    with pytest.raises(ValueError, match="head: 'classification' belongs to another model"):
        from_pretrained(tmp_path / "o", head="classification")


def test_a_model_says_its_own_settings_only(tmp_path):
    VisionEncoder(CONFIGS[VisionEncoder]).save_pretrained(tmp_path / "m")
    named = json.loads((tmp_path / "m" / "config.json").read_text())["config"]
    assert "image_size" in named and not {"vocabulary", "copying", "features", "end"} & named.keys()


@pytest.mark.parametrize(
    "name",
    ["generation", "image-classification", "sentiment", "speech-recognition", "summarization", "translation"],
)
def test_the_models_that_come_along_load(name):
    folder = resources.files("sightline") / "box" / name
    assert type(from_pretrained(folder)).__name__ == json.loads((folder / "config.json").read_text())["model"]

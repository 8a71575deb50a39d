"""Weights in a page: exact, compact, and refused where they do not fit."""

from __future__ import annotations

import base64
import gzip

import numpy as np
import pytest
import torch

from sightline.common.errors import CommandError
from sightline.models import Decoder, DecoderConfig
from sightline.models.saving import stored
from sightline.view.live import packed, packing
from tests.view.live.asking import answers, question

CONFIG = DecoderConfig(width=16, heads=2, layers=1, vocabulary=11)


def decoded(text):
    """Base 85 as web/compute/base85.js has it: Ascii85's digits, seven characters on, "~" for "<"."""
    assert "<" not in text  # which might end the element
    plain = text.replace("~", "<").encode()
    return base64.a85decode(bytes(letter - 7 for letter in plain))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 1000, 1003])
def test_bytes_as_letters(size):
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    for each in (data, bytes(size), b"\xff" * size):
        assert decoded(packing._base85(each)) == each


def unpacked(model):
    """The weights by name, read as web/live/weights.js reads them."""
    held = packed(model)
    numbers = []
    for block in held.blocks:
        planes = np.frombuffer(gzip.decompress(decoded(block["text"])), np.uint8)
        planes = planes.reshape(-1, block["count"]).T
        if block["kind"] == "b2":
            planes = np.concatenate([np.zeros_like(planes), planes], 1)
        kind = {"i1": "<i1", "f2": "<f2"}.get(block["kind"], "<f4")
        numbers.append(np.ascontiguousarray(planes).view(kind)[:, 0].astype(np.float32))
    read = {}
    for each in held.tensors:
        size = int(np.prod(each["shape"]))
        read[each["name"]] = numbers[each["block"]][each["at"] : each["at"] + size].reshape(each["shape"])
    scales = {name: read.pop(name) for name in list(read) if name.endswith(":scales")}
    for name, each in scales.items():
        read[name.removesuffix(":scales")] *= each[:, None]
    return read


@pytest.mark.parametrize(("dtype", "kind"), [("float16", "f2"), ("bfloat16", "b2"), ("float32", "f4")])
def test_exact_in_the_precision_of_the_checkpoint(dtype, kind):
    torch.manual_seed(0)
    model = Decoder(CONFIG)
    if dtype != "float16":  # numbers so small that float16 would round them
        model.embedding.tokens.weight.data *= 1e-6
    model = model.to(getattr(torch, dtype)).float()
    assert kind in [block["kind"] for block in packed(model).blocks]
    for name, numbers in unpacked(model).items():
        np.testing.assert_array_equal(numbers, model.state_dict()[name].numpy())


def test_eight_bits_with_scales(tmp_path):
    """As many bytes as numbers, and exactly what the checkpoint says."""
    torch.manual_seed(0)
    Decoder(CONFIG).save_pretrained(tmp_path / "model", dtype=torch.int8)
    model = Decoder.from_pretrained(tmp_path / "model")
    matrices = [tensor for tensor in model.state_dict().values() if tensor.dim() > 1]
    whole = packed(model).blocks[0]
    assert (whole["kind"], whole["count"]) == ("i1", sum(tensor.numel() for tensor in matrices))
    for name, numbers in unpacked(model).items():
        np.testing.assert_array_equal(numbers, model.state_dict()[name].numpy())
    ((answer,),) = answers(tmp_path, [question(model, {"target": [1, 2, 3]})])
    wanted = model(torch.tensor([[1, 2, 3]]))
    torch.testing.assert_close(torch.tensor(answer["logits"]).view(wanted.shape), wanted, atol=1e-5, rtol=0)


def test_kinds_mix(tmp_path):
    """A model whose tensors differ in precision runs with all of them exact."""
    torch.manual_seed(0)
    model = Decoder(CONFIG).half().float()
    with torch.no_grad():
        model.embedding.tokens.weight += 1e-5
        model.decoder.norm.weight.fill_(1e30)  # beyond float16, and none of float32's digits are needed
        model.decoder.norm.weight.copy_(model.decoder.norm.weight.bfloat16())
    assert [block["kind"] for block in packed(model).blocks] == ["f2", "b2", "f4"]
    with torch.no_grad():
        model.decoder.norm.weight.fill_(2.0)
    ((answer,),) = answers(tmp_path, [question(model, {"target": [1, 2, 3]})])
    wanted = model(torch.tensor([[1, 2, 3]]))
    torch.testing.assert_close(torch.tensor(answer["logits"]).view(wanted.shape), wanted, atol=1e-4, rtol=0)


def test_the_same_model_makes_the_same_text():
    model = Decoder(CONFIG)
    assert packed(model) == packed(model)


def test_too_large_says_what_helps():
    model = Decoder(CONFIG)
    with pytest.raises(
        CommandError, match=r"take 0 MB, and a page carries at most 0 MB\. Saved as int8 .* a quarter\."
    ):
        packed(model, limit=1000)
    with pytest.raises(CommandError, match=r"it takes half\.$"):
        packed(model.half().float(), limit=1000)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(stored(parameter, torch.int8))
    with pytest.raises(CommandError, match=r"at most 0 MB\.$"):
        packed(model, limit=1000)


def test_other_numbers_are_refused():
    with pytest.raises(CommandError, match=r"embedding\.tokens\.weight is float64"):
        packed(Decoder(CONFIG).double())
    model = Decoder(CONFIG)
    with torch.no_grad():
        model.decoder.norm.bias[3] = float("nan")
    with pytest.raises(CommandError, match=r"decoder\.norm\.bias holds a number that is not finite"):
        packed(model)

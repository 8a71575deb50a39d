"""Every way of Transformers to ask for attentions works under "sightline" as it does under "eager"."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from huggingface_hub.dataclasses import strict
from tiny_models import GQA, TEXT, VOCABULARY, assert_equal, tokens
from torch import Tensor
from transformers import AutoConfig, AutoModel, BertConfig, BertModel, PreTrainedConfig
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

import sightline
import sightline.huggingface
from sightline.huggingface import configuration

OURS = {"attn_implementation": "sightline"}
ASKED = {"output_attentions": True}
LLAMA = hf.LlamaConfig


def config(**options: Any) -> Any:
    return BertConfig(**TEXT, **options)


def saved(folder: Path, **options: Any) -> Path:
    BertModel(config(**options)).save_pretrained(folder)
    return folder


def changed(thing: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(thing, name, value)
    return thing


def switched(model: Any, implementation: Any) -> Any:
    model.set_attn_implementation(implementation)
    return model


def asked_later(model: Any) -> Any:
    model.config.output_attentions = True
    return model


def through_torch_save(model: Any, folder: Path) -> Any:
    torch.save(model, folder / "model.pt")
    return torch.load(folder / "model.pt", weights_only=False)


WAYS: dict[str, Callable[[Path], Any]] = {
    "from_pretrained": lambda f: BertModel.from_pretrained(saved(f), **OURS, **ASKED),
    "from_pretrained, auto": lambda f: AutoModel.from_pretrained(saved(f), **OURS, **ASKED, device_map=None),
    "from_pretrained, per submodel": lambda f: BertModel.from_pretrained(
        saved(f), attn_implementation={"": "sightline"}, **ASKED
    ),
    "from_pretrained, then asked": lambda f: asked_later(BertModel.from_pretrained(saved(f), **OURS)),
    "configuration": lambda f: BertModel(config(**OURS, **ASKED)),
    "configuration, then asked": lambda f: asked_later(BertModel(config(**OURS))),
    "configuration, then updated": lambda f: BertModel(config(**OURS)),
    "asked, then from_config": lambda f: AutoModel.from_config(config(**ASKED), **OURS),
    "eager, then from_config": lambda f: AutoModel.from_config(changed(config(), **ASKED), **OURS),
    "asked, then switched": lambda f: switched(BertModel(config(**ASKED)), "sightline"),
    "asked, then switched by parts": lambda f: switched(BertModel(config(**ASKED)), {"": "sightline"}),
    "set on the configuration": lambda f: AutoModel.from_config(
        changed(config(), _attn_implementation="sightline", **ASKED)
    ),
    "saved and loaded": lambda f: BertModel.from_pretrained(saved(f, **OURS, **ASKED), **OURS),
    "configuration loaded": lambda f: BertModel.from_pretrained(
        f, config=AutoConfig.from_pretrained(saved(f, **OURS, **ASKED), **OURS)
    ),
    "saved, then switched": lambda f: switched(
        BertModel.from_pretrained(saved(f, **OURS, **ASKED)), "sightline"
    ),
    "through a dictionary": lambda f: BertModel(
        BertConfig.from_dict(config(**OURS, **ASKED).to_dict(), **OURS)
    ),
    "copied": lambda f: copy.copy(BertModel(config(**OURS, **ASKED))),
    "deepcopied": lambda f: copy.deepcopy(BertModel(config(**OURS, **ASKED))),
    "configuration deepcopied": lambda f: BertModel(copy.deepcopy(config(**OURS, **ASKED))),
    "pickled": lambda f: pickle.loads(pickle.dumps(BertModel(config(**OURS, **ASKED)))),
    "torch.save": lambda f: through_torch_save(BertModel(config(**OURS, **ASKED)), f),
    "bfloat16": lambda f: BertModel.from_pretrained(saved(f), **OURS, **ASKED, dtype="bfloat16").float(),
}


@pytest.mark.parametrize("way", WAYS)
def test_ways_to_ask(way: str, tmp_path: Path) -> None:
    model = WAYS[way](tmp_path).eval()
    if way == "configuration, then updated":
        model.config.update(ASKED)
    assert model.config.output_attentions
    eager = switched(copy.deepcopy(model), "eager")
    with torch.no_grad():
        ours, theirs = model(tokens(2, 7)), eager(tokens(2, 7))
    assert_equal(ours.last_hidden_state, theirs.last_hidden_state)
    assert len(ours.attentions) == len(theirs.attentions) == 2
    for matrix, weights in zip(ours.attentions, theirs.attentions, strict=True):
        assert isinstance(matrix, sightline.AttentionMatrix)
        assert_equal(matrix.dense(), weights)
    model.save_pretrained(tmp_path / "again")  # which validates the configuration


@pytest.mark.parametrize("kind", [BertConfig, LLAMA])
def test_other_implementations_are_refused_as_before(kind: Any) -> None:
    with pytest.raises(Exception, match="not supported when using the `attn_implementation` set to sdpa"):
        kind(attn_implementation="sdpa", **ASKED)
    with pytest.raises(ValueError, match="set to sdpa"):
        changed(kind(attn_implementation="sdpa"), **ASKED)
    assert changed(kind(), **ASKED)._attn_implementation == "eager"
    assert not changed(kind(**OURS), output_attentions=False).output_attentions


def test_another_name() -> None:
    sightline.huggingface.register("mine")
    try:
        named = config(attn_implementation="mine", **ASKED)
        output = BertModel(named).eval()(tokens(1, 5))
        assert all(isinstance(layer, sightline.AttentionMatrix) for layer in output.attentions)
    finally:
        AttentionInterface._global_mapping.pop("mine")
        AttentionMaskInterface._global_mapping.pop("mine")


def test_a_class_defined_later() -> None:
    @strict(accept_kwargs=True)
    class Later(PreTrainedConfig):  # type: ignore[misc]
        model_type = "later"

    later = Later(**OURS, **ASKED)
    assert changed(later, **ASKED).output_attentions
    with pytest.raises(Exception, match="set to sdpa"):
        Later(attn_implementation="sdpa", **ASKED)


def test_versions_that_do_not_refuse_are_left_alone() -> None:
    """No property, no validator, or one that keeps the value elsewhere: nothing to replace."""

    class Plain:
        output_attentions = False

    class Elsewhere:
        def read(self) -> bool:
            return bool(vars(self).get("asked"))

        def write(self, value: bool) -> None:
            vars(self)["asked"] = value

        output_attentions = property(read, write)

    for kind in (Plain, Elsewhere):
        before = dict(vars(kind))
        configuration.replace_setter(kind)
        configuration.replace_validator(kind)
        assert dict(vars(kind)) == before


VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40,
          "image_size": 32, "patch_size": 8}  # fmt: skip
PATCHES = 16
IMAGE = VOCABULARY - 1


def clip() -> tuple[Any, Any]:
    text = TEXT | {"eos_token_id": 2}
    return hf.CLIPModel, hf.CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)


def llava() -> tuple[Any, Any]:
    parts = {"text_config": LLAMA(**GQA), "vision_config": hf.CLIPVisionConfig(**VISION)}
    return hf.LlavaForConditionalGeneration, hf.LlavaConfig(**parts, image_token_id=IMAGE)


def captioner() -> tuple[Any, Any]:
    decoder = BertConfig(**TEXT, is_decoder=True, add_cross_attention=True)
    both = hf.VisionEncoderDecoderConfig.from_encoder_decoder_configs(hf.ViTConfig(**VISION), decoder)
    return hf.VisionEncoderDecoderModel, changed(both, decoder_start_token_id=1, pad_token_id=0)


COMPOSED = {
    "clip": (clip, "input_ids"),
    "llava": (llava, "input_ids"),
    "captioner": (captioner, "decoder_input_ids"),
}


def weights_in(output: Any, path: str = "") -> dict[str, Any]:
    """The attentions in a model's output, at any depth."""
    found = {}
    pairs = output.items() if isinstance(output, dict) else enumerate(output)
    for name, value in pairs:
        if isinstance(value, tuple | dict):
            found |= weights_in(value, f"{path}.{name}")
        elif "attentions" in path:
            found[f"{path}.{name}"] = value
    return found


@pytest.mark.parametrize("saving", [False, True])
@pytest.mark.parametrize("ours", ["all", "first", "second"])
@pytest.mark.parametrize("name", COMPOSED)
def test_parts_with_an_implementation_of_their_own(
    name: str, ours: str, saving: bool, tmp_path: Path
) -> None:
    build, argument = COMPOSED[name]
    model_class, parts = build()
    names = list(parts.sub_configs) if name != "captioner" else ["encoder", "decoder"]
    chosen = {"all": names, "first": names[:1], "second": names[1:]}[ours]
    wanted = {each: "sightline" if each in chosen else "eager" for each in names}
    model = model_class._from_config(parts, attn_implementation=wanted).eval()
    if saving:
        model.config.output_attentions = True
        model.save_pretrained(tmp_path)
        model = model_class.from_pretrained(tmp_path, attn_implementation=wanted, **ASKED).eval()
    eager = switched(copy.deepcopy(model), "eager")
    ids = tokens(2, 7).clamp(max=IMAGE - 1)
    if name == "llava":
        ids = torch.cat((torch.full((2, PATCHES), IMAGE), ids), 1)
    inputs: dict[str, Any] = {argument: ids, "pixel_values": torch.randn(2, 3, 32, 32)}
    with torch.no_grad():
        found, expected = (weights_in(each(**inputs, **ASKED)) for each in (model, eager))
    assert found.keys() == expected.keys()
    assert expected
    lazy = {each for each, value in found.items() if isinstance(value, sightline.AttentionMatrix)}
    assert (len(lazy) == len(found)) == (ours == "all" or (name, ours) == ("llava", "second"))
    for each, weights in expected.items():
        value = found[each]
        assert_equal(value if isinstance(value, Tensor) and each not in lazy else value.dense(), weights)

"""What models of Transformers write: the target of a source."""

from __future__ import annotations

from typing import Any

import torch

from sightline.common.devices import device_of
from sightline.huggingface.load import LoadedModel
from sightline.reading.errors import InputError

WRITTEN = 64
"""Tokens that an encoder-decoder writes at most when no target is given."""


def tensors(loaded: LoadedModel, inputs: dict[str, Any]) -> dict[str, Any]:
    """Encoded inputs as tensors, where the model is."""
    where = device_of(loaded.model)
    return {name: torch.tensor(value, device=where) for name, value in inputs.items()}


def written_by(loaded: LoadedModel, inputs: dict[str, Any]) -> list[int]:
    """The target that the model writes itself: decoder input ids, without the end token."""
    if not hasattr(loaded.model, "generate") or loaded.model.get_output_embeddings() is None:
        raise InputError(f"the model {loaded.name} cannot write a target text; give one as the second text")
    ids: list[int] = loaded.model.generate(
        **inputs,
        do_sample=False,
        num_beams=1,
        max_new_tokens=WRITTEN,
        decoder_start_token_id=start_of(loaded),
    )[0].tolist()
    return ids[:-1] if len(ids) > 1 and ids[-1] == loaded.tokenizer.eos_token_id else ids


def start_of(loaded: LoadedModel) -> int:
    """The id with which its target begins."""
    config, tokenizer = loaded.model.config, loaded.tokenizer
    for place, name in (
        (config, "decoder_start_token_id"),
        (loaded.model.generation_config, "decoder_start_token_id"),
        (tokenizer, "bos_token_id"),
        (tokenizer, "pad_token_id"),
    ):
        if isinstance(number := getattr(place, name, None), int):
            return number
    raise InputError(f"the model {loaded.name} does not say with which token its target begins")

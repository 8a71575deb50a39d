"""Small random models with tokenizers of the tasks' own kind, saved as ``save_pretrained`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sightline.models import (
    Decoder,
    DecoderConfig,
    Encoder,
    EncoderConfig,
    EncoderDecoder,
    EncoderDecoderConfig,
)
from sightline.tasks.tokenizing import train_pieces

TEXTS = ["the cat sat on the mat .", "a dog saw the cats , and sat down", "who sat where ?"] * 3
SIZE = {"width": 32, "heads": 4, "layers": 2, "hidden": 48}


def saved(folder: Path, kind: str, **settings: Any) -> Path:
    """The folder of a random "encoder-decoder", "decoder", or "encoder" with three classes."""
    torch.manual_seed(1)
    tokenizer = train_pieces(TEXTS, 90)
    size = tokenizer.get_vocab_size()
    model: Any
    if kind == "encoder-decoder":
        chosen = {"max_positions": 16, "embedding_scale": True, "pad": 0, "start": 2, "end": 3}
        model = EncoderDecoder(EncoderDecoderConfig(**SIZE, vocabulary=size, **chosen | settings))
    elif kind == "decoder":
        model = Decoder(DecoderConfig(**SIZE, vocabulary=size, **{"positions": "rotary"} | settings))
    else:
        chosen = {"head": "classification", "classes": 3, "max_positions": 20}
        model = Encoder(EncoderConfig(**SIZE, vocabulary=size, **chosen | settings))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder / kind, tokenizer, dtype=torch.float16)
    return folder / kind

"""Transformers made of :mod:`sightline.nn`'s layers: one configuration, one block, five models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sightline.models.config import TransformerConfig
from sightline.models.decoder import Decoder
from sightline.models.encoder import Encoder
from sightline.models.encoder_decoder import EncoderDecoder, Matrices
from sightline.models.generation import Generated
from sightline.models.model import Model
from sightline.models.published import from_huggingface
from sightline.models.saving import CheckpointError, load, load_tokenizer
from sightline.models.speech_encoder import SpeechEncoder
from sightline.models.vision_encoder import VisionEncoder

__all__ = [
    "CheckpointError",
    "Decoder",
    "Encoder",
    "EncoderDecoder",
    "Generated",
    "Matrices",
    "Model",
    "SpeechEncoder",
    "TransformerConfig",
    "VisionEncoder",
    "from_huggingface",
    "from_pretrained",
    "load_tokenizer",
]


def from_pretrained(folder: str | Path, **changes: Any) -> Model:
    """The model in a folder, of whichever class it is; see :meth:`Model.from_pretrained`."""
    return load(Path(folder), Model, changes)

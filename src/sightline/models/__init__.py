"""Transformers made of :mod:`sightline.nn`'s layers: one block, five models, each with its configuration."""

from sightline.models.config import TransformerConfig
from sightline.models.decoder import Decoder, DecoderConfig
from sightline.models.encoder import Encoder, EncoderConfig
from sightline.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig, Matrices
from sightline.models.generation import Generated
from sightline.models.loading import from_huggingface, from_pretrained
from sightline.models.model import Model
from sightline.models.saving import CheckpointError, load_tokenizer
from sightline.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from sightline.models.vision_encoder import VisionEncoder, VisionEncoderConfig

__all__ = [
    "CheckpointError",
    "Decoder",
    "DecoderConfig",
    "Encoder",
    "EncoderConfig",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "Generated",
    "Matrices",
    "Model",
    "SpeechEncoder",
    "SpeechEncoderConfig",
    "TransformerConfig",
    "VisionEncoder",
    "VisionEncoderConfig",
    "from_huggingface",
    "from_pretrained",
    "load_tokenizer",
]

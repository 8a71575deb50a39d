"""Models saved before each had a configuration of its own: they name the settings of all models."""

from __future__ import annotations

from typing import Any

FORMER_FIELDS: dict[str, Any] = {
    "decoder_layers": None,
    "vocabulary": 0,
    "segments": 0,
    "head": "none",
    "classes": 0,
    "pooling": "mean",
    "pooler": False,
    "max_positions": 512,
    "embedding_norm": False,
    "embedding_scale": False,
    "tied": True,
    "head_bias": False,
    "copying": False,
    "pad": None,
    "start": None,
    "end": None,
    "image_size": 224,
    "patch_size": 16,
    "channels": 3,
    "stem": 0,
    "features": 80,
    "subsampling": 4,
    "convolution": None,
}
"""Settings that only some models have, each with its default."""

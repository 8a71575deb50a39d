"""The same model twice: a copy whose layers are ``torch.nn``'s."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import TypeVar

from sightline.bench.beside.layers import TorchDecoder, TorchEncoder
from sightline.models import Model, SpeechEncoder, TransformerConfig
from sightline.models.config import Positions
from sightline.nn import TransformerDecoder, TransformerEncoder

M = TypeVar("M", bound=Model)
_ADDED = ("learned", "sinusoidal", "sinusoidal-halves", "none")


def torch_twin(model: M) -> M:
    """A copy of a model that computes the same function by ``torch.nn.TransformerEncoder`` and ``Decoder``.

    Weights are copied, so that both start as the same function and can be compared after training. Embedding,
    positions and head stay as they are, and dropout is in the same places.

    Args:
        model: an Encoder, Decoder, EncoderDecoder, VisionEncoder or SpeechEncoder.

    Raises:
        ValueError: for what torch.nn's layers do not have: rotary, ALiBi or relative positions, RMS norm,
            grouped keys, gated layers, a window, projections without bias.

    Example:
        >>> import torch
        >>> from sightline.bench.beside import torch_twin
        >>> from sightline.models import Encoder, EncoderConfig
        >>> model = Encoder(EncoderConfig(width=32, layers=2, vocabulary=50)).eval()
        >>> twin, ids = torch_twin(model), torch.randint(50, (2, 7))
        >>> torch.allclose(model(ids, lengths=[7, 7]), twin(ids, lengths=[7, 7]), atol=1e-5)
        True
    """
    reason = obstacle(model.config)
    if reason is not None:
        raise ValueError(f"{reason}, which torch.nn's layers do not have.")
    twin = copy.deepcopy(model)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, TransformerEncoder):
                setattr(parent, name, TorchEncoder(model.config, child))
            elif isinstance(child, TransformerDecoder):
                setattr(parent, name, TorchDecoder(model.config, child))
    return twin.train(model.training)


def obstacle(config: TransformerConfig) -> str | None:
    """The first setting that torch.nn's layers do not have; ``None`` if they have all."""
    positions = getattr(config, "max_positions", math.inf)  # images have one of their own for each patch
    missing = {
        "positions": config.positions not in _ADDED,
        "norm": config.norm != "layer",
        "kv_heads": config.kv_heads not in (None, config.heads),
        "activation": config.activation in ("swiglu", "geglu"),
        "window": config.window is not None and config.window < positions,
        "bias": not config.bias,
    }
    return next((f"{name}: {getattr(config, name)!r}" for name, bad in missing.items() if bad), None)


def comparable(model: M) -> tuple[M, str | None]:
    """A model with positions that ``torch.nn`` can have, the same one if possible, and what was changed.

    Raises:
        ValueError: as :func:`torch_twin`.
    """
    config = model.config
    if config.positions in _ADDED:
        return model, None
    added: Positions = "sinusoidal" if isinstance(model, SpeechEncoder) else "learned"  # of any length there
    changed = type(model)(replace(config, positions=added))
    return (
        changed,
        f"positions: {added} instead of {config.positions}, which torch.nn does not have, on both sides",
    )

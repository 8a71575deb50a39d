"""From a name, a folder or a module to the model that is profiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.common.check import kind
from sightline.profiling.profiled_model import ModelCall, ProfiledModel

#: The model name that stands for the one that comes as a package.
DEFAULT = "default"
#: What the weights of a model given by name can be turned into.
DTYPES = ("float32", "bfloat16", "float16")


def load_profiled_model(
    model: str | nn.Module,
    tokenizer: Any = None,
    run: ModelCall | None = None,
    dtype: str = "float32",
    device: torch.device | None = None,
) -> ProfiledModel:
    """The model, loaded if it is given by name.

    Args:
        model: a Hugging Face name, a local folder, :data:`DEFAULT`, or any PyTorch model.
        tokenizer: for texts; default: the one that comes with a model given by name.
        run: how to call a model that is not from Transformers.
        dtype: one of :data:`DTYPES`, for a model given by name.
        device: where such a model runs. Default: the CPU; one that is given stays where it is.

    Raises:
        CommandError: if the name or folder gives no model.
    """
    if isinstance(model, Path):
        model = str(model)
    if isinstance(model, str):
        # Late: a model given as a module needs no Transformers.
        from sightline.huggingface.load import load_model

        loaded = load_model(None if model == DEFAULT else model, dtype, body=True, device=device)
        return ProfiledModel(loaded.model, loaded.name, tokenizer or loaded.tokenizer, loaded.limit, run)
    kind("model", model, nn.Module, "a name, a folder as a string, or a torch.nn.Module")
    config = getattr(model, "config", None)
    limit = None
    if tokenizer is not None and config is not None:
        from sightline.huggingface.load import position_limit

        limit = position_limit(config, tokenizer)
    name = str(getattr(config, "name_or_path", "") or type(model).__name__)
    return ProfiledModel(model, name, tokenizer, limit, run)

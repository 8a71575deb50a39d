"""Models on disk: safetensors and JSON, never a pickle; whole or not at all.

``model.safetensors`` holds the weights and, in its header, the configuration; ``config.json`` holds the same
configuration for people and tools. Both must agree, which a mixture of two saves does not.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.common.atomic import replacing
from sightline.common.errors import CommandError
from sightline.models.config import TransformerConfig
from sightline.models.model import Model

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
_FORMAT, _VERSION = "sightline.models", 1
_OF_THE_HEAD = {"head", "classes", "pooling", "pooler"}


class CheckpointError(CommandError):
    """The folder holds no model of Sightline, or only half of one."""


def save(model: Model, folder: Path, tokenizer: Any = None, dtype: torch.dtype | None = None) -> None:
    """See :meth:`Model.save_pretrained`."""
    text = None if tokenizer is None else _tokenizer_text(tokenizer)
    if text is None and (folder / TOKENIZER).is_file():
        text = (folder / TOKENIZER).read_bytes()
    files = _files(model, text, dtype)
    if folder.exists():
        for name, content in files.items():
            with replacing(folder / name) as file:
                file.write(content)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
    part.mkdir()
    try:
        for name, content in files.items():
            with replacing(part / name) as file:
                file.write(content)
        os.rename(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def load(folder: Path, wanted: type[Model], changes: dict[str, Any]) -> Model:
    """See :meth:`Model.from_pretrained`; ``wanted`` may be :class:`Model` itself, for any."""
    described, weights = _read(folder)
    kind = _classes().get(described["model"])
    if kind is None:
        raise CheckpointError(f"{folder}: holds a {described['model']!r}, which this version does not know.")
    if not issubclass(kind, wanted):
        raise CheckpointError(f"{folder}: holds a {kind.__name__}, not a {wanted.__name__}.")
    try:
        saved = TransformerConfig.from_dict(described["config"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    config = TransformerConfig.from_dict({**saved.to_dict(), **changes})
    model = kind(config)
    new_head = any(getattr(saved, name) != getattr(config, name) for name in _OF_THE_HEAD)
    _fill(model, weights, folder, new_head)
    return model.eval()


def load_tokenizer(folder: str | Path) -> Any:
    """The ``tokenizers.Tokenizer`` that was saved with a model.

    Raises:
        CheckpointError: if there is none, or it is not the one that was saved with it.
    """
    from tokenizers import Tokenizer

    path = Path(folder) / TOKENIZER
    if not path.is_file():
        raise CheckpointError(f"{path}: no tokenizer was saved with this model.")
    content = path.read_bytes()
    if _read_json(Path(folder) / CONFIG).get("tokenizer") != _digest(content):
        raise CheckpointError(
            f"{path}: is not the tokenizer that was saved with this model; it was changed since."
        )
    return Tokenizer.from_str(content.decode())


# --- writing --------------------------------------------------------------------------------------------


def _files(model: Model, tokenizer: bytes | None, dtype: torch.dtype | None) -> dict[str, bytes]:
    """What is written, in this order."""
    from safetensors.torch import save as to_bytes

    described: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "model": type(model).__name__,
        "config": model.config.to_dict(),
        "tokenizer": None if tokenizer is None else _digest(tokenizer),
    }
    header = {"format": "pt", _FORMAT: json.dumps(described, sort_keys=True)}
    files = {} if tokenizer is None else {TOKENIZER: tokenizer}
    files[WEIGHTS] = to_bytes({name: t.to(dtype or t.dtype) for name, t in _unshared(model).items()}, header)
    files[CONFIG] = (json.dumps(described, indent=2) + "\n").encode()
    return files


def _unshared(model: torch.nn.Module) -> dict[str, Tensor]:
    """Each tensor once, under its first name."""
    seen: set[int] = set()
    found = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.detach().contiguous().cpu()
    return found


def _tokenizer_text(tokenizer: Any) -> bytes:
    tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(tokenizer, "to_str"):
        return str(tokenizer.to_str()).encode()
    if isinstance(tokenizer, (str, Path)):
        return Path(tokenizer).read_bytes()
    raise ValueError(
        f"tokenizer: expected a tokenizers.Tokenizer, a fast tokenizer or a path, "
        f"got {type(tokenizer).__name__}."
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- reading --------------------------------------------------------------------------------------------


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the weights, which belong together."""
    from safetensors import SafetensorError, safe_open

    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder.")
    described = _read_json(folder / CONFIG)
    if described.get("format") != _FORMAT:
        hint = " It is one of Transformers: use from_huggingface." if "model_type" in described else ""
        raise CheckpointError(f"{folder / CONFIG}: is no model of Sightline.{hint}")
    if described.get("version") != _VERSION:
        raise CheckpointError(
            f"{folder / CONFIG}: has version {described.get('version')}, this one reads {_VERSION}."
        )
    path = folder / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{folder}: {WEIGHTS} is missing; the model was written only in part.")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_FORMAT)
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is truncated or no safetensors file ({error}).") from None
    if header is None or json.loads(header) != described:
        raise CheckpointError(
            f"{folder}: {CONFIG} and {WEIGHTS} come from different saves, or one was edited. "
            "Save the model again."
        )
    return described, weights


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path.parent}: {path.name} is missing; this is no saved model.")
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path}: is no JSON ({error}).") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: is no model of Sightline.")
    return found


def _fill(model: Model, weights: dict[str, Tensor], folder: Path, new_head: bool) -> None:
    wanted = _unshared(model)
    if new_head:
        wanted = {name: tensor for name, tensor in wanted.items() if not name.startswith("head.")}
        weights = {name: tensor for name, tensor in weights.items() if not name.startswith("head.")}
    for name in sorted(wanted.keys() ^ weights.keys()):
        where = "is missing" if name in wanted else "is not part of this model"
        raise CheckpointError(f"{folder / WEIGHTS}: {name} {where}.")
    for name, tensor in wanted.items():
        if tensor.shape != weights[name].shape:
            raise CheckpointError(
                f"{folder / WEIGHTS}: {name} has shape {list(weights[name].shape)}, "
                f"the configuration asks for {list(tensor.shape)}."
            )
    model.to(next(iter(weights.values())).dtype)
    model.load_state_dict(weights, strict=False)


def _classes() -> dict[str, type[Model]]:
    from sightline import models

    kinds = (
        models.Encoder,
        models.Decoder,
        models.EncoderDecoder,
        models.VisionEncoder,
        models.SpeechEncoder,
    )
    return {kind.__name__: kind for kind in kinds}

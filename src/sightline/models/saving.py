"""Models on disk: safetensors and JSON, never a pickle; whole or not at all.

``model.safetensors`` holds the weights and, in its header, the configuration; ``config.json`` holds the same
configuration for people and tools. Both must agree, which a mixture of two saves does not. Matrices of 8 bits
are two tensors each: whole numbers, and the scale of each row.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sightline.common.atomic import replacing
from sightline.common.check import path
from sightline.common.errors import CommandError
from sightline.models.eight_bits import SCALES, EightBits, eight_bits

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
_FORMAT, _VERSION = "sightline.models", 1


class CheckpointError(CommandError):
    """The folder holds no model saved by Sightline, or only half of one.

    Example:
        >>> from sightline.models import CheckpointError, from_pretrained
        >>> try:
        ...     from_pretrained("nothing-here")
        ... except CheckpointError as error:
        ...     print(error)
        nothing-here: there is no such folder.
    """


class Saved(NamedTuple):
    """What a folder holds.

    Attributes:
        model: the name of the model's class.
        config: its configuration.
        weights: its tensors by name, each once.
    """

    model: str
    config: dict[str, Any]
    weights: dict[str, Tensor]


def save(
    model: nn.Module,
    config: dict[str, Any],
    folder: Path,
    tokenizer: Any = None,
    dtype: torch.dtype | None = None,
) -> None:
    """See :meth:`sightline.models.Model.save_pretrained`."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"folder: {folder} is a file. Give another path.")
    text = None if tokenizer is None else _tokenizer_text(tokenizer)
    if text is None and (folder / TOKENIZER).is_file():
        text = (folder / TOKENIZER).read_bytes()
    files = _files(model, config, text, dtype)
    if folder.exists():
        _write(files, folder)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.part"
    part.mkdir()
    try:
        _write(files, part)
        os.rename(part, folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def read(folder: Path) -> Saved:
    """The model's class, configuration and weights, which belong together.

    Raises:
        CheckpointError: for a folder that holds no model, or only half of one.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: there is no such folder.")
    described = _read_json(folder / CONFIG)
    if described.get("format") != _FORMAT:
        hint = " It comes from Transformers: use from_huggingface." if "model_type" in described else ""
        raise CheckpointError(f"{folder / CONFIG}: is not a model saved by Sightline.{hint}")
    if described.get("version") != _VERSION:
        raise CheckpointError(
            f"{folder / CONFIG}: has version {described.get('version')}, this one reads {_VERSION}."
        )
    header, weights = _read_weights(folder / WEIGHTS)
    if header is None or json.loads(header) != described:
        raise CheckpointError(
            f"{folder}: {CONFIG} and {WEIGHTS} come from different saves, or one was edited. "
            "Save the model again."
        )
    model, config = described.get("model"), described.get("config")
    if not isinstance(model, str) or not isinstance(config, dict) or not weights:
        raise CheckpointError(f"{folder}: names no model, configuration or weights. Save the model again.")
    return Saved(model, config, weights)


def fill(model: nn.Module, weights: dict[str, Tensor], folder: Path, new_head: bool) -> None:
    """Puts the weights into a model, in their dtype; a new head keeps its own.

    Raises:
        CheckpointError: for weights that do not fit the model.
    """
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


def load_tokenizer(folder: str | Path) -> Any:
    """The ``tokenizers.Tokenizer`` that was saved with a model.

    Args:
        folder: where :meth:`Model.save_pretrained` put the model and its tokenizer.

    Raises:
        CheckpointError: if there is none, or it is not the one that was saved with the model.

    Example:
        >>> import pathlib, tempfile, tokenizers
        >>> from sightline.models import Decoder, DecoderConfig, load_tokenizer
        >>> words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "cat": 1}, unk_token="a"))
        >>> folder = pathlib.Path(tempfile.mkdtemp()) / "model"
        >>> Decoder(DecoderConfig(width=8, heads=2, layers=1, vocabulary=2)).save_pretrained(folder, words)
        >>> load_tokenizer(folder).encode("cat").ids
        [1]
    """
    from tokenizers import Tokenizer

    where = path("folder", folder)
    file = where / TOKENIZER
    if not file.is_file():
        raise CheckpointError(f"{file}: no tokenizer was saved with this model.")
    content = file.read_bytes()
    if _read_json(where / CONFIG).get("tokenizer") != _digest(content):
        raise CheckpointError(
            f"{file}: is not the tokenizer that was saved with this model; it was changed since."
        )
    return Tokenizer.from_str(content.decode())


# --- writing --------------------------------------------------------------------------------------------


def _write(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        with replacing(folder / name) as file:
            file.write(content)


def _files(
    model: nn.Module, config: dict[str, Any], tokenizer: bytes | None, dtype: torch.dtype | None
) -> dict[str, bytes]:
    """What is written, in this order."""
    from safetensors.torch import save as to_bytes

    described: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "model": type(model).__name__,
        "config": config,
        "tokenizer": None if tokenizer is None else _digest(tokenizer),
    }
    header = {"format": "pt", _FORMAT: json.dumps(described, sort_keys=True)}
    files = {} if tokenizer is None else {TOKENIZER: tokenizer}
    files[WEIGHTS] = to_bytes(_written(_unshared(model), dtype), header)
    files[CONFIG] = (json.dumps(described, indent=2) + "\n").encode()
    return files


def stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """What a weight has become when it was written as ``dtype`` and read again, in its own dtype."""
    if dtype != torch.int8:
        return tensor.to(dtype).to(tensor.dtype)
    return eight_bits(tensor).tensor().to(tensor.dtype) if tensor.dim() > 1 else tensor


def _written(weights: dict[str, Tensor], dtype: torch.dtype | None) -> dict[str, Tensor]:
    """The tensors of a file."""
    if dtype != torch.int8:
        return {name: tensor.to(dtype or tensor.dtype) for name, tensor in weights.items()}
    written = {}
    for name, tensor in weights.items():
        written[name] = tensor.float()
        if tensor.dim() > 1:
            written[name], written[name + SCALES] = eight_bits(tensor)
    return written


def _unshared(model: nn.Module) -> dict[str, Tensor]:
    """Each tensor once, under its first name."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach().contiguous().cpu()
    return tensors


def _tokenizer_text(tokenizer: Any) -> bytes:
    tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(tokenizer, "to_str"):
        return str(tokenizer.to_str()).encode()
    if isinstance(tokenizer, (str, Path)):
        if not Path(tokenizer).is_file():
            raise FileNotFoundError(f"tokenizer: there is no file {str(tokenizer)!r}.")
        return Path(tokenizer).read_bytes()
    raise ValueError(
        f"tokenizer: expected a tokenizers.Tokenizer, a fast tokenizer or a path, "
        f"got {type(tokenizer).__name__}."
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- reading --------------------------------------------------------------------------------------------


def _read_weights(path: Path) -> tuple[str | None, dict[str, Tensor]]:
    """The description in the header, and the tensors."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CheckpointError(f"{path.parent}: {path.name} is missing; the model was written only in part.")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_FORMAT)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is truncated or not a safetensors file ({error}).") from None
    return header, _whole(tensors, path)


def _whole(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights: numbers of 8 bits times the scales that lie beside them."""
    weights = {name: tensor for name, tensor in tensors.items() if not name.endswith(SCALES)}
    for name, tensor in weights.items():
        if tensor.dtype == torch.int8:
            scales = tensors.get(name + SCALES)
            if scales is None or scales.shape != tensor.shape[:1]:
                raise CheckpointError(f"{path}: {name} has 8 bits, and no scale for each of its rows.")
            weights[name] = EightBits(tensor, scales).tensor()
    return weights


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path.parent}: {path.name} is missing; this is not a saved model.")
    try:
        described = json.loads(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path}: is not valid JSON ({error}).") from None
    if not isinstance(described, dict):
        raise CheckpointError(f"{path}: is not a model saved by Sightline.")
    return described

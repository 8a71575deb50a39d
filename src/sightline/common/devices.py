"""Where a model runs: from a user's word to a device, and a model with its inputs brought there."""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from sightline.common.errors import CommandError

WORDS = ("auto", "cpu", "cuda", "mps")

M = TypeVar("M", bound=nn.Module)


class DeviceError(CommandError, ValueError):
    """The device that was asked for is not there, or cannot be used."""


def device_named(word: Any) -> torch.device:
    """The device that a word means.

    Args:
        word: "auto" takes the first CUDA device where PyTorch has one that it was built for, else the CPU;
            "cpu"; "cuda", or "cuda:1" for another than the current one; "mps". A ``torch.device`` is taken
            too.

    Raises:
        DeviceError: for an unknown word, a device that is not there, and a card that this PyTorch has no
            code for.

    Example:
        >>> from sightline.common.devices import device_named
        >>> device_named("cpu")
        device(type='cpu')
    """
    name = str(word) if isinstance(word, torch.device) else word
    kind, _, number = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind not in WORDS or (number and (kind != "cuda" or not number.isdecimal())):
        raise DeviceError(f"device {word!r}: there is no such one; known are auto, cpu, cuda, cuda:1 and mps")
    if kind == "auto":
        return _best()
    if kind == "cuda":
        return _cuda(name, int(number) if number else None)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError(f"device {name!r}: this machine, or its PyTorch, has no MPS; take cpu")
    return torch.device(kind)


def _best() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number = torch.cuda.current_device()
    strange = _unknown(number)
    if strange is None:
        return torch.device("cuda", number)
    warnings.warn(f"the CPU computes: {strange}", stacklevel=4)
    return torch.device("cpu")


def _cuda(name: str, number: int | None) -> torch.device:
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = (
            f"PyTorch {torch.__version__} was built without CUDA; install one with it (pytorch.org says how)"
            if built is None
            else f"PyTorch {torch.__version__} finds no card and driver for CUDA {built}; nvidia-smi tells"
        )
        raise DeviceError(f"device {name!r}: {why}, or take cpu")
    count = torch.cuda.device_count()
    if number is not None and number >= count:
        raise DeviceError(f"device {name!r}: this machine has {count}, counted from cuda:0")
    chosen = torch.cuda.current_device() if number is None else number
    strange = _unknown(chosen)
    if strange is not None:
        raise DeviceError(f"device {name!r}: {strange}; take cpu, or another PyTorch")
    return torch.device("cuda", chosen)


def _unknown(number: int) -> str | None:
    """Why PyTorch has no code for a card, older or newer than it was built for; ``None`` if it has."""
    names = torch.cuda.get_arch_list()
    built = [name.removeprefix("sm_").rstrip("af") for name in names if name.startswith("sm_")]
    known = sorted(int(name) for name in built if name.isdecimal())
    major, minor = torch.cuda.get_device_capability(number)
    # Code for a card runs on later ones of its generation; what is compiled on the card itself, on all later.
    generation = any(one // 10 == major and one % 10 <= minor for one in known)
    later = any(name.startswith("compute_") for name in names) and 10 * major + minor >= min(known, default=0)
    if not known or generation or later:
        return None
    return (
        f"{torch.cuda.get_device_name(number)} is of compute capability {major}.{minor}, and PyTorch "
        f"{torch.__version__} was built for {', '.join(f'{one // 10}.{one % 10}' for one in known)}"
    )


def placed(model: M, device: torch.device) -> M:
    """The model on a device; what it is called with is brought there, too.

    Raises:
        DeviceError: its weights do not fit.
    """
    try:
        model.to(device)
    except torch.OutOfMemoryError as error:
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        raise DeviceError(
            f"device '{device}': its memory is full: the weights take {size / 1e9:.1f} GB. Take cpu, a "
            f"smaller model, or a shorter dtype where there is a choice"
        ) from error
    if device.type != "cpu":
        model.register_forward_pre_hook(_bring, with_kwargs=True)
    return model


def _bring(model: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
    where = device_of(model)

    def brought(one: Any) -> Any:
        return one.to(where) if isinstance(one, Tensor) and one.device != where else one

    return tree_map(brought, args), tree_map(brought, kwargs)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's inputs belong: the device of its first weight; the CPU for one without weights."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def out_of_memory(error: BaseException) -> str | None:
    """What to tell of an error that a full GPU raised; ``None`` for any other.

    The blocks of attention take a fixed amount; what grows with the input are the model's own numbers.
    """
    if not isinstance(error, torch.OutOfMemoryError):
        return None
    line = (str(error).strip().splitlines() or [""])[0].split(". ")[0]
    return (
        f"the GPU's memory is full ({line}): give less at once (--max-tokens, --batch, --set batch=...), "
        f"a smaller model, or --device cpu"
    )

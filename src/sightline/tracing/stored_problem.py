"""One call's problem as it stands in a file, checked: wrong sizes would read memory that is not its own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sightline.backends import Problem
from sightline.backends.sound import STORED, check_sound
from sightline.tracing.tensor_file import TensorFileError, need


def read_problem(where: str, about: Any, mapped: dict[str, Tensor]) -> tuple[Problem, Tensor, Tensor | None]:
    """The problem that is described, its lse [B,H,N], and the gradient of its context, if there is one.

    Args:
        where: whose it is, for errors.
        about: its description.
        mapped: the tensors of the file.

    Raises:
        TensorFileError: for anything that does not fit.
    """
    need(isinstance(about["tensors"], dict), f"{where} has no table of tensors")
    need(set(about["tensors"]) <= set(STORED), f"{where} has tensors of unknown names")
    need({"query", "key", "lse"} <= set(about["tensors"]), f"{where} lacks its query, key or lse")
    tensors = {name: stored_tensor(where, name, one, mapped) for name, one in about["tensors"].items()}
    scale, softcap = about.get("scale"), about.get("softcap")
    try:
        check_sound(tensors, {"scale": scale, "softcap": softcap})
    except ValueError as error:
        raise TensorFileError(f"{where}: {error}") from error
    lse, gradient = tensors.pop("lse"), tensors.pop("gradient", None)
    terms: dict[str, Any] = {"value": None} | tensors
    problem = Problem(**terms, scale=float(scale), softcap=softcap)
    need(list(problem.shape) == about.get("shape"), f"{where} says another shape than its tensors have")
    return problem, lse, gradient


def stored_tensor(where: str, name: str, about: Any, mapped: dict[str, Tensor]) -> Tensor:
    """A tensor of a call as it is described; repeated along axes that are stored once."""
    need(isinstance(about, dict) and isinstance(about.get("name"), str), f"{where} does not name its {name}")
    stored = mapped.get(about["name"])
    if stored is None:
        raise TensorFileError(f"{where}: its {name}, {about['name'][:60]!r}, is missing")
    shape = about.get("shape")
    sound = isinstance(shape, list) and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    need(sound, f"{where}: its {name} has an invalid shape")
    if list(stored.shape) == shape:
        return stored
    fits = len(shape) == stored.dim() and all(
        have in (1, want) for have, want in zip(stored.shape, shape, strict=True)
    )
    need(fits, f"{where}: its {name} is {list(stored.shape)}, which is not {shape}")
    return stored.expand(shape)

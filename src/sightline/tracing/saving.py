"""A trace as a file: safetensors, with everything else as JSON in its metadata. Linear in the sequence.

Queries, keys, values and lse are one tensor each; masks are the key ranges that they were kept as. What
several layers share is stored once. The file is written beside its place and moved there when it is complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from sightline._version import __version__
from sightline.backends import tensors
from sightline.common.atomic import replacing
from sightline.tracing.call import AttentionCall
from sightline.tracing.media import Picture, Sound
from sightline.tracing.parts import is_shared, layouts_of, place_of
from sightline.tracing.tensor_file import write_to

#: The version of the format; a reader refuses a later one.
FORMAT = 1

# Memory by address, shape, strides and dtype, and the name that it has in the file.
_Names = dict[tuple[Any, ...], str]


class Saveable(Protocol):
    """What a trace has that goes into its file."""

    model: str
    tokens: list[str] | None
    notices: list[str]
    medium: Picture | Sound | None

    def __iter__(self) -> Iterator[AttentionCall]:
        """Its calls."""


def save(trace: Saveable, path: Path) -> None:
    """Writes the calls of a trace to ``path``, whole or not at all; of several processes each its part.

    Raises:
        OSError: if the file cannot be written.
        TypeError: if ``trace.tokens`` are not strings.
    """
    calls = list(trace)
    place = place_of(calls)
    stored: dict[str, Tensor] = {}
    names: _Names = {}
    described = {
        "format": FORMAT,
        "model": trace.model,
        "tokens": _strings(trace.tokens),
        "notices": trace.notices,
        "medium": _medium(trace.medium, stored),
        "versions": {"sightline": __version__, "torch": str(torch.__version__)},
        "calls": [_described(call, stored, names) for call in calls],
    }
    if place is not None:
        described["part"] = place._asdict()
        path = place.path(path)
    metadata = {"sightline_trace": json.dumps(described, ensure_ascii=False)}
    with replacing(path) as file:
        write_to(file, stored, metadata)


def _strings(tokens: Any) -> list[str] | None:
    if tokens is None:
        return None
    given: list[Any] = list(tokens)
    wrong = next((token for token in given if not isinstance(token, str)), None)
    if wrong is not None:
        raise TypeError(
            f"trace.tokens: must be strings, got {wrong!r}. Decode them with the tokenizer first."
        )
    return given


def _medium(medium: Picture | Sound | None, stored: dict[str, Tensor]) -> Any:
    if medium is None:
        return None
    stored["medium"] = medium.pixels if isinstance(medium, Picture) else medium.frames
    return medium.about()


def _described(call: AttentionCall, stored: dict[str, Tensor], names: _Names) -> Any:
    about: dict[str, Any] = {
        "name": call.name, "kind": call.kind, "how": call.how, "reason": call.reason,
    }  # fmt: skip
    if call.shape is None:
        return about
    layouts = layouts_of(call.matrix)
    if layouts is not None:
        about["layouts"] = layouts
    matrix: Any = call.matrix
    problem = matrix.held() if is_shared(call) else matrix.problem
    whole = tensors(problem) | {"lse": call.matrix.exact_lse}
    if call.gradient is not None:
        whole["gradient"] = call.gradient
    about["shape"] = list(call.matrix.shape)
    about["windows"], about["rows"] = call.windows, call.rows
    about["scale"], about["softcap"] = float(problem.scale), problem.softcap
    about["tensors"] = {name: _stored(t, f"{call.index}.{name}", stored, names) for name, t in whole.items()}
    return about


def _stored(tensor: Tensor, name: str, stored: dict[str, Tensor], names: _Names) -> Any:
    """The tensor's name in the file; axes along which it repeats are stored once and expanded again."""
    once = tensor
    for axis, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[axis] > 1:
            once = once.narrow(axis, 0, 1)
    identity = (once.data_ptr(), tuple(once.shape), once.stride(), once.dtype)
    if identity not in names or not once.numel():
        names[identity] = name
        stored[name] = once
    return {"name": names[identity], "shape": list(tensor.shape)}

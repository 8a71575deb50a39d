"""A trace as a file: safetensors, with everything else as JSON in its metadata. Linear in the sequence.

Queries, keys, values and lse are one tensor each; masks are the key ranges that they were kept as. What
several layers share is stored once. The file is written beside its place and moved there when it is complete.
"""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline._version import __version__
from sightline.backends.problem import Problem
from sightline.backends.select import tensors
from sightline.common.atomic import replacing
from sightline.tracing.call import AttentionCall
from sightline.tracing.calls import Calls
from sightline.tracing.media import Picture, Sound
from sightline.tracing.tensor_file import TensorFileError, map_file, write_to

#: The version of the format; a reader refuses a later one.
FORMAT = 1

_FLOATING = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_TENSOR_FIELDS = {f.name for f in fields(Problem) if "Tensor" in str(f.type)} - {"seed"}


class SavedTrace(Calls):
    """A trace that was read from a file: its calls, without its model.

    Attributes:
        versions: what it was made with: {"sightline": ..., "torch": ...}.
    """

    versions: dict[str, str]


# --- writing -------------------------------------------------------------------------------------------


def save(trace: Calls, path: Path) -> None:
    """Writes the calls of a trace to ``path``, whole or not at all.

    Raises:
        OSError: if the file cannot be written.
        TypeError: if ``trace.tokens`` are not strings.
    """
    stored: dict[str, Tensor] = {}
    names: dict[tuple[Any, ...], str] = {}
    described = {
        "format": FORMAT,
        "model": trace.model,
        "tokens": _tokens(trace.tokens),
        "notices": trace.notices,
        "medium": _medium(trace.medium, stored),
        "versions": {"sightline": __version__, "torch": str(torch.__version__)},
        "calls": [_described(call, stored, names) for call in trace],
    }
    metadata = {"sightline_trace": json.dumps(described, ensure_ascii=False)}
    with replacing(path) as file:
        write_to(file, stored, metadata)


def _tokens(tokens: Any) -> list[str] | None:
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


def _described(call: AttentionCall, stored: dict[str, Tensor], names: dict[tuple[Any, ...], str]) -> Any:
    about: dict[str, Any] = {
        "name": call.name, "kind": call.kind, "how": call.how, "reason": call.reason,
    }  # fmt: skip
    if call.shape is None:
        return about
    problem = call.matrix.problem
    found = {name: t for name, t in tensors(problem).items() if name in _TENSOR_FIELDS}
    found["lse"] = call.matrix.lse
    if call.gradient is not None:
        found["gradient"] = call.gradient
    about["shape"] = list(problem.shape)
    about["scale"], about["softcap"] = float(problem.scale), problem.softcap
    about["tensors"] = {name: _stored(t, f"{call.index}.{name}", stored, names) for name, t in found.items()}
    return about


def _stored(tensor: Tensor, name: str, stored: dict[str, Tensor], names: dict[tuple[Any, ...], str]) -> Any:
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


# --- reading -------------------------------------------------------------------------------------------


def load(path: Path) -> SavedTrace:
    """Reads a saved trace; see :func:`sightline.load_trace`."""
    try:
        mapped, metadata = map_file(path)
        if "sightline_trace" not in metadata:
            raise TensorFileError("it is a safetensors file, but no trace")
        return _trace(_json(metadata["sightline_trace"]), mapped)
    except TensorFileError as error:
        raise ValueError(f"{path}: is no sound trace: {error}.") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise TensorFileError("its description is no JSON") from None


def _trace(about: Any, mapped: dict[str, Tensor]) -> SavedTrace:
    _need(isinstance(about, dict) and type(about.get("format")) is int, "its description lacks a format")
    if about["format"] > FORMAT:
        raise TensorFileError(
            f"it has format {about['format']}, this version of Sightline reads up to {FORMAT}. "
            "Install a later Sightline"
        )
    _need(about["format"] == FORMAT, f"there is no format {about['format']}")
    calls, tokens, notices = about.get("calls"), about.get("tokens"), about.get("notices", [])
    _need(isinstance(calls, list), "its calls are no list")
    _need(tokens is None or _strings(tokens), "its tokens are no strings")
    _need(_strings(notices), "its notices are no strings")
    versions = about.get("versions", {})
    _need(isinstance(versions, dict) and _strings(list(versions.values())), "its versions are no strings")
    trace = SavedTrace([_call(i, one, mapped) for i, one in enumerate(calls)], str(about.get("model", "")))
    trace.tokens, trace.notices, trace.versions = tokens, notices, versions
    trace.medium = _read_medium(about.get("medium"), mapped.get("medium"))
    return trace


def _read_medium(about: Any, numbers: Tensor | None) -> Picture | Sound | None:
    if about is None:
        return None
    _need(isinstance(about, dict) and numbers is not None, "its image or sound is missing")
    assert numbers is not None
    kind = about.get("kind")
    names = {"image": ("rows", "columns", "first"), "sound": ("first", "count", "seconds")}.get(kind)
    _need(names is not None, "its medium is neither image nor sound")
    assert names is not None
    _need(
        all(type(about.get(n)) is int or (n == "seconds" and type(about.get(n)) is float) for n in names),
        f"its {kind} is not described",
    )
    try:
        given = {name: about[name] for name in names}
        return Picture(numbers, **given) if kind == "image" else Sound(numbers, **given)
    except ValueError as error:
        raise TensorFileError(f"its {kind} is not sound: {error}") from None


def _call(index: int, about: Any, mapped: dict[str, Tensor]) -> AttentionCall:
    where = f"call {index}"
    _need(isinstance(about, dict), f"{where} is no object")
    _need(_strings([about.get(n) for n in ("name", "kind", "how")]), f"{where} lacks its name, kind or how")
    _need(about["kind"] in ("self", "cross"), f"{where} is of an unknown kind")
    reason = about.get("reason")
    _need(reason is None or isinstance(reason, str), f"{where} has a reason that is no text")
    call = AttentionCall(index, about["name"], about["kind"], about["how"], None, reason)
    if "tensors" not in about:
        _need(reason is not None, f"{where} has no tensors")
        return call
    problem, found = _problem(where, about, mapped)
    call.set_problem(problem, found["lse"])
    call.gradient = found.get("gradient")
    return call


def _problem(where: str, about: Any, mapped: dict[str, Tensor]) -> tuple[Problem, dict[str, Tensor]]:
    _need(isinstance(about["tensors"], dict), f"{where} has no table of tensors")
    known = _TENSOR_FIELDS | {"lse", "gradient"}
    _need(set(about["tensors"]) <= known, f"{where} has tensors of unknown names")
    _need({"query", "key", "lse"} <= set(about["tensors"]), f"{where} lacks its query, key or lse")
    found = {name: _tensor(where, name, one, mapped) for name, one in about["tensors"].items()}
    scale, softcap = about.get("scale"), about.get("softcap")
    _need(type(scale) in (int, float) and abs(scale) < 1e30, f"{where} has no sound scale")
    _need(softcap is None or (type(softcap) is float and 0 < softcap < 1e30), f"{where} has no sound softcap")
    _check_shapes(where, found)
    terms: dict[str, Any] = {name: tensor for name, tensor in found.items() if name in _TENSOR_FIELDS}
    problem = Problem(**({"value": None} | terms), scale=float(scale), softcap=softcap)
    _need(list(problem.shape) == about.get("shape"), f"{where} says another shape than its tensors have")
    return problem, found


def _tensor(where: str, name: str, about: Any, mapped: dict[str, Tensor]) -> Tensor:
    _need(isinstance(about, dict) and isinstance(about.get("name"), str), f"{where} does not name its {name}")
    stored = mapped.get(about["name"])
    if stored is None:
        raise TensorFileError(f"{where}: its {name}, {about['name'][:60]!r}, is missing")
    shape = about.get("shape")
    sound = isinstance(shape, list) and all(type(n) is int and 0 <= n < 1 << 40 for n in shape)
    _need(sound, f"{where}: its {name} has no sound shape")
    if list(stored.shape) == shape:
        return stored
    fits = len(shape) == stored.dim() and all(
        have in (1, want) for have, want in zip(stored.shape, shape, strict=True)
    )
    _need(fits, f"{where}: its {name} is {list(stored.shape)}, which is not {shape}")
    return stored.expand(shape)


def _check_shapes(where: str, found: dict[str, Tensor]) -> None:
    """Every tensor must be what a Problem needs: computing on anything else would read what is not there."""
    query, key = found["query"], found["key"]
    for name in ("query", "key", "value"):
        tensor = found.get(name)
        if tensor is not None:
            _need(tensor.dim() == 4, f"{where}: its {name} has {tensor.dim()} axes, expected 4")
            _need(tensor.dtype in _FLOATING, f"{where}: its {name} is {tensor.dtype}")
            _need(tensor.dtype == query.dtype, f"{where}: its {name} is of another dtype than its query")
    b, h, n, d = query.shape
    _need(d > 0 and key.shape[0] == b and key.shape[3] == d, f"{where}: query and key do not fit")
    _need(key.shape[1] > 0 and h % key.shape[1] == 0, f"{where}: its heads are no multiple of its key heads")
    m = key.shape[2]
    value = found.get("value")
    _need(value is None or value.shape[:3] == key.shape[:3], f"{where}: key and value do not fit")
    whole = (b, h, n, m)
    _like(where, found, "lse", whole[:3], _FLOATING)
    _like(where, found, "bias", whole, _FLOATING, broadcasts=True)
    _like(where, found, "visible", whole, (torch.bool,), broadcasts=True)
    _like(where, found, "sinks", (h,), _FLOATING)
    _like(where, found, "slopes", (b, h), _FLOATING, broadcasts=True)
    _like(where, found, "offset", (b,), (torch.int64,), broadcasts=True)
    table = found.get("table")
    if table is not None:
        ok = table.dim() == 2 and table.shape[0] in (1, h) and table.shape[1] % 2 == 1
        _need(ok and table.dtype in _FLOATING, f"{where}: its table has shape {list(table.shape)}")
    needs_offset = "slopes" in found or "table" in found
    _need(not needs_offset or "offset" in found, f"{where}: lacks its offset")
    gradient = found.get("gradient")
    width = None if value is None else value.shape[3]
    _need(
        gradient is None or tuple(gradient.shape) == (b, h, n, width), f"{where}: its gradient does not fit"
    )
    _check_ranges(where, found.get("ranges"), b, h, n, m)


def _check_ranges(where: str, ranges: Tensor | None, b: int, h: int, n: int, m: int) -> None:
    if ranges is None:
        return
    ok = ranges.dim() == 5 and ranges.dtype == torch.int32 and ranges.shape[4] == 2 and ranges.shape[3] > 0
    ok = ok and ranges.shape[0] in (1, b) and ranges.shape[1] in (1, h) and ranges.shape[2] in (1, n)
    _need(ok, f"{where}: its ranges have shape {list(ranges.shape)}")
    if ranges.numel():
        least, most = int(ranges.min()), int(ranges.max())
        _need(least >= 0 and most <= m, f"{where}: its ranges run from {least} to {most} of {m} keys")


def _like(
    where: str,
    found: dict[str, Tensor],
    name: str,
    shape: tuple[int, ...],
    dtypes: tuple[torch.dtype, ...],
    broadcasts: bool = False,
) -> None:
    tensor = found.get(name)
    if tensor is None:
        return
    fits = tensor.dim() == len(shape) and all(
        have == want or (broadcasts and have == 1) for have, want in zip(tensor.shape, shape, strict=True)
    )
    _need(fits and tensor.dtype in dtypes, f"{where}: its {name} is {list(tensor.shape)} of {tensor.dtype}")


def _strings(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _need(holds: bool, message: str) -> None:
    if not holds:
        raise TensorFileError(message)

"""A saved trace is read back: whatever a file says of itself is checked before it is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.tracing.call import AttentionCall
from sightline.tracing.calls import Calls
from sightline.tracing.media import Picture, Sound
from sightline.tracing.parts import files_of, joined
from sightline.tracing.saving import FORMAT
from sightline.tracing.stored_problem import read_problem
from sightline.tracing.tensor_file import TensorFileError, map_file, need


class SavedTrace(Calls):
    """A trace that was read from a file: its calls, without its model.

    Attributes:
        versions: what it was made with: {"sightline": ..., "torch": ...}.
    """

    versions: dict[str, str]


def load(path: Path) -> SavedTrace:
    """Reads a saved trace; see :func:`sightline.load_trace`."""
    try:
        need(not path.is_dir(), "it is a folder; name a file that trace.save(path) wrote")
        files = files_of(path)
        if len(files) == 1:
            about, mapped = _opened(files[0])
            need("part" not in about, f"it is a part of a trace: {about.get('part')}, under another name")
        else:
            about, mapped = joined(*map(list, zip(*map(_opened, files), strict=True)))
        return _trace(about, mapped)
    except TensorFileError as error:
        raise ValueError(f"{path}: is not a valid trace: {error}.") from None


def _opened(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """What a file says of itself, and its tensors."""
    mapped, metadata = map_file(path)
    if "sightline_trace" not in metadata:
        raise TensorFileError("it is a safetensors file, but no trace")
    about = _json(metadata["sightline_trace"])
    need(isinstance(about, dict), "its description lacks a format")
    return about, mapped


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise TensorFileError("its description is not JSON") from None


def _trace(about: Any, mapped: dict[str, Tensor]) -> SavedTrace:
    need(isinstance(about, dict) and type(about.get("format")) is int, "its description lacks a format")
    if about["format"] > FORMAT:
        raise TensorFileError(
            f"it has format {about['format']}, this version of Sightline reads up to {FORMAT}. "
            "Install a later Sightline"
        )
    need(about["format"] == FORMAT, f"there is no format {about['format']}")
    calls, tokens, notices = about.get("calls"), about.get("tokens"), about.get("notices", [])
    need(isinstance(calls, list), "its calls are no list")
    need(tokens is None or _strings(tokens), "its tokens are no strings")
    need(_strings(notices), "its notices are not strings")
    versions = about.get("versions", {})
    need(isinstance(versions, dict) and _strings(list(versions.values())), "its versions are not strings")
    trace = SavedTrace([_call(i, one, mapped) for i, one in enumerate(calls)], str(about.get("model", "")))
    trace.tokens, trace.notices, trace.versions = tokens, notices, versions
    trace.medium = _medium(about.get("medium"), mapped.get("medium"))
    return trace


def _medium(about: Any, numbers: Tensor | None) -> Picture | Sound | None:
    if about is None:
        return None
    need(isinstance(about, dict) and numbers is not None, "its image or sound is missing")
    assert numbers is not None
    kind = about.get("kind")
    names = {"image": ("rows", "columns", "first"), "sound": ("first", "count", "seconds")}.get(kind)
    need(names is not None, "its medium is neither an image nor a sound")
    assert names is not None
    need(
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
    need(isinstance(about, dict), f"{where} is not an object")
    need(_strings([about.get(n) for n in ("name", "kind", "how")]), f"{where} lacks its name, kind or how")
    need(about["kind"] in ("self", "cross"), f"{where} is of an unknown kind")
    reason = about.get("reason")
    need(reason is None or isinstance(reason, str), f"{where} has a reason that is not text")
    call = AttentionCall(index, about["name"], about["kind"], about["how"], None, reason)
    call.windows, call.rows = about.get("windows", 1), about.get("rows", "positions")
    need(type(call.windows) is int and call.windows > 0, f"{where} has windows that are no number")
    need(call.rows in ("positions", "channels"), f"{where} has rows of an unknown kind")
    if "tensors" not in about:
        need(reason is not None, f"{where} has no tensors")
        return call
    problem, lse, call.gradient = read_problem(where, about, mapped)
    call.set_problem(problem, lse)
    return call


def _strings(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)

"""A trace of several processes as files: each writes its part, and all parts open as one.

Part 0 of 2 of ``run.safetensors`` is ``run.0-of-2.safetensors``. A part has the queries, keys and values that
its process held, what masks and biases say of its queries, and who held which positions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sightline.backends.sound import STORED
from sightline.tracing.call import AttentionCall
from sightline.tracing.stored_problem import stored_tensor
from sightline.tracing.tensor_file import TensorFileError, need

_NAMED = re.compile(r"^(.*)\.(\d+)-of-(\d+)(\.[^.]*)?$")

#: Of each process the runs of positions that it held, half-open, in the order of its rows.
Layouts = list[list[list[int]]]


class Place(NamedTuple):
    """Which part of how many."""

    rank: int
    parts: int

    def path(self, whole: Path) -> Path:
        """The file of the part of a trace."""
        return whole.with_name(f"{whole.stem}.{self.rank}-of-{self.parts}{whole.suffix}")


def is_shared(call: AttentionCall) -> bool:
    """Whether several processes hold the matrix of a call, or one that may be alone."""
    return call.shape is not None and hasattr(call.matrix, "layouts")


def place_of(calls: Sequence[AttentionCall]) -> Place | None:
    """Which part of a trace these calls are; ``None`` where one process has all."""
    for call in filter(is_shared, calls):
        matrix: Any = call.matrix
        rank, queries, _ = matrix.layouts
        return Place(rank, len(queries.segments)) if len(queries.segments) > 1 else None
    return None


def layouts_of(matrix: Any) -> dict[str, Layouts] | None:
    """Who held which queries and keys of a matrix; ``None`` where one process has all."""
    layouts = getattr(matrix, "layouts", None)
    if layouts is None or len(layouts[1].segments) == 1:
        return None
    return {
        name: [[[one.first, one.last] for one in of_rank] for of_rank in layout.segments]
        for name, layout in zip(("queries", "keys"), layouts[1:], strict=True)
    }


def files_of(path: Path) -> list[Path]:
    """The files of a trace: the file itself; or all its parts, by the name of one of them or of the whole.

    Raises:
        TensorFileError: parts are missing.
    """
    named = _NAMED.match(path.name)
    if named is None:
        if path.exists():
            return [path]
        beside = path.parent.glob(f"{_plain(path.stem)}.*-of-*{_plain(path.suffix)}")
        parts = sorted(one for one in beside if _NAMED.match(one.name))
        if not parts:
            return [path]
        named = _NAMED.match(parts[0].name)
        assert named is not None
    stem, _, count, suffix = named.groups()
    need(0 < int(count) < 1 << 16, f"its name tells of {count} parts")
    files = [path.with_name(f"{stem}.{rank}-of-{count}{suffix or ''}") for rank in range(int(count))]
    missing = [one.name for one in files if not one.exists()]
    need(
        not missing or not path.exists(),
        f"it is a part of a trace of {count} processes, and {', '.join(missing)} does not lie beside it",
    )
    return files if not missing else [path]


def _plain(text: str) -> str:
    return re.sub(r"([\[\]*?])", r"[\1]", text)


def joined(abouts: list[Any], maps: list[dict[str, Tensor]]) -> tuple[Any, dict[str, Tensor]]:
    """The description and the tensors of the whole, of those of its parts.

    Raises:
        TensorFileError: for parts that do not belong together.
    """
    for rank, about in enumerate(abouts):
        need(isinstance(about.get("calls"), list), "its calls are no list")
        need(all(map(_is_call, about["calls"])), "its calls are no objects with tensors")
        need(isinstance(about.get("notices", []), list), "its notices are no list")
        part = {"rank": rank, "parts": len(abouts)}
        need(about.get("part") == part, f"the file of part {rank} of {len(abouts)} says that it is another")
    first = abouts[0]
    need(
        all(_told(about) == _told(first) for about in abouts),
        "its parts are of different runs: their calls differ",
    )
    whole = _Joined(maps)
    calls = [
        whole.call(index, [about["calls"][index] for about in abouts]) for index in range(len(first["calls"]))
    ]
    notices = dict.fromkeys(
        one for about in abouts for one in about.get("notices", []) if isinstance(one, str)
    )
    tokens = _tokens([about.get("tokens") for about in abouts], calls)
    return {**first, "calls": calls, "notices": list(notices), "tokens": tokens}, whole.tensors


def _is_call(about: Any) -> bool:
    return isinstance(about, dict) and isinstance(about.get("tensors", {}), dict)


def _told(about: Any) -> Any:
    """What all parts must say alike."""
    calls = [
        [
            one.get(name)
            for name in ("name", "kind", "how", "shape", "windows", "rows", "scale", "softcap", "layouts")
        ]
        + [sorted(one["tensors"]) if "tensors" in one else None]
        for one in about["calls"]
    ]
    return [about.get("format"), about.get("model"), len(about["calls"]), calls]


class _Joined:
    """The tensors of the whole, each once."""

    def __init__(self, maps: list[dict[str, Tensor]]) -> None:
        self._maps = maps
        self.tensors: dict[str, Tensor] = {k: v for k, v in maps[0].items() if k == "medium"}
        self._names: dict[Any, str] = {}

    def call(self, index: int, parts: list[Any]) -> Any:
        """A call's description, of its parts'."""
        about = dict(parts[0])
        reasons = [one.get("reason") for one in parts]
        about["reason"] = next((one for one in reasons if one is not None), None)
        if "tensors" not in about:
            return about
        where = f"call {index}"
        if "layouts" not in about:  # which no process shared: those of the first
            return about | {"tensors": {name: self._own(one) for name, one in about["tensors"].items()}}
        layouts = about["layouts"]
        sound = isinstance(layouts, dict) and set(layouts) == {"queries", "keys"}
        need(
            sound and isinstance(about.get("shape"), list) and len(about["shape"]) == 4,
            f"{where} has no layouts",
        )
        for name, length in zip(("queries", "keys"), about["shape"][2:], strict=True):
            _check_layout(f"{where}: the layout of its {name}", layouts[name], length, len(parts))
        about["tensors"] = {
            name: self._tensor(where, name, [one["tensors"][name] for one in parts], layouts)
            for name in about["tensors"]
        }
        return about

    def _own(self, about: Any) -> Any:
        name = about.get("name") if isinstance(about, dict) else None
        if isinstance(name, str) and name in self._maps[0]:
            self.tensors[f"0:{name}"] = self._maps[0][name]
            return about | {"name": f"0:{name}"}
        return about

    def _tensor(self, where: str, name: str, abouts: list[Any], layouts: dict[str, Layouts]) -> Any:
        """One of a call's tensors, put together along the axis of queries or of keys, if it has one."""
        need(name in STORED, f"{where} has tensors of unknown names")
        axes, _ = STORED[name]
        parts = [stored_tensor(where, name, *one) for one in zip(abouts, self._maps, strict=True)]
        need(all(one.dim() == len(axes) for one in parts), f"{where}: its {name} has not the axes of one")
        side, letter = ("keys", "M") if name in ("key", "value") else ("queries", "N")
        key = (str(layouts[side]), *(str(one) for one in abouts))
        if key not in self._names:
            axis = axes.find(letter)
            self._names[key] = f"{where}.{name}"
            self.tensors[f"{where}.{name}"] = (
                _once(parts[0])
                if axis < 0
                else _put_together(f"{where}: its {name}", parts, axis, layouts[side])
            )
        shape = list(parts[0].shape)
        if axes.find(letter) >= 0:
            shape[axes.find(letter)] = self.tensors[self._names[key]].shape[axes.find(letter)]
        return {"name": self._names[key], "shape": shape}


def _put_together(what: str, parts: list[Tensor], axis: int, layout: Layouts) -> Tensor:
    """Parts along an axis, each entry at its position; one entry that stands for all stays one."""
    unfit = f"{what} has parts that do not fit together"
    need(len({one.dtype for one in parts}) == 1, unfit)
    if all(one.shape[axis] == 1 and one.equal(parts[0]) for one in parts):
        return _once(parts[0])
    counts = [sum(last - first for first, last in runs) for runs in layout]
    for part, count in zip(parts, counts, strict=True):
        # What repeats along the axis would be as long as a file says, not as it has numbers.
        held = part.stride(axis) != 0 or part.shape[axis] < 2
        need(part.shape[axis] == count and held, unfit)
    parts = [_once(one, keep=axis) for one in parts]
    rests = {one.shape[:axis] + one.shape[axis + 1 :] for one in parts}
    need(len(rests) == 1, unfit)
    whole = parts[0].new_empty([*parts[0].shape[:axis], sum(counts), *parts[0].shape[axis + 1 :]])
    for part, runs in zip(parts, layout, strict=True):
        start = 0
        for first, last in runs:
            whole.narrow(axis, first, last - first).copy_(part.narrow(axis, start, last - first))
            start += last - first
    return whole


def _once(tensor: Tensor, keep: int = -1) -> Tensor:
    """A tensor with axes along which it repeats held once."""
    for axis, stride in enumerate(tensor.stride()):
        if stride == 0 and tensor.shape[axis] > 1 and axis != keep:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor


def _check_layout(what: str, layout: Any, length: Any, count: int) -> None:
    """Raises unless each position is held by one process."""
    whole = isinstance(layout, list) and len(layout) == count and type(length) is int
    need(whole and all(isinstance(runs, list) for runs in layout), f"{what} is not one of {count} processes")
    runs = [one for of_rank in layout for one in of_rank]
    pairs = all(
        isinstance(one, list) and len(one) == 2 and all(type(number) is int for number in one) for one in runs
    )
    need(pairs, f"{what} has runs that are no pairs")
    at = 0
    for first, last in sorted(runs):
        need(first == at and first < last, f"{what} leaves position {at} out, or has it twice")
        at = last
    need(at == length, f"{what} ends at {at}, not at {length}")


def _tokens(given: list[Any], calls: list[Any]) -> Any:
    """The tokens of the whole: what all parts say alike, or those of the rows of each."""
    if all(one == given[0] for one in given):
        return given[0]
    layout = next((one["layouts"]["queries"] for one in calls if "layouts" in one), None)
    if layout is None or not all(isinstance(one, list) for one in given):
        raise TensorFileError("its parts have different tokens")
    counts = [sum(last - first for first, last in runs) for runs in layout]
    need([len(one) for one in given] == counts, "its parts have tokens that are not those of their positions")
    whole: list[Any] = [None] * sum(counts)
    for tokens, runs in zip(given, layout, strict=True):
        start = 0
        for first, last in runs:
            whole[first:last] = tokens[start : start + last - first]
            start += last - first
    return whole

"""safetensors files, written in one piece and mapped lazily, without another library.

The format (github.com/huggingface/safetensors): eight bytes with the length of a JSON header, the header
{name: {dtype, shape, data_offsets}, "__metadata__": {str: str}}, then the numbers, without gaps. Nothing in a
file is executed; everything that it says about itself is checked before it is used.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

#: Bytes of a header that are read at most.
HEADER_LIMIT = 100_000_000

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


class TensorFileError(ValueError):
    """A file that is not a valid safetensors file."""


def need(holds: bool, message: str) -> None:
    """Raises TensorFileError with this message unless it holds."""
    if not holds:
        raise TensorFileError(message)


def write_file(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Writes tensors and metadata to ``path``; returns the number of bytes."""
    with open(path, "wb") as file:
        return write_to(file, tensors, metadata)


def write_to(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> int:
    """Writes tensors and metadata to an open file; returns the number of bytes."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    # Wide numbers first: each then starts at a multiple of its size.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    start = 0
    for name in order:
        tensor = tensors[name]
        stop = start + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in order:
        _write_numbers(file, tensors[name])
    return 8 + len(text) + start


def _write_numbers(file: BinaryIO, tensor: Tensor) -> None:
    plain = tensor.detach().cpu().contiguous()
    size = plain.numel() * plain.element_size()
    if size:
        file.write(memoryview((ctypes.c_char * size).from_address(plain.data_ptr())))


def map_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, memory-mapped: read when they are used; and its metadata.

    Raises:
        TensorFileError: for a file that is truncated, corrupt, or says what cannot be.
        OSError: for a file that cannot be opened.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise TensorFileError(f"it has {size} bytes, too few for a header")
        length = int.from_bytes(start, "little")
        if length > HEADER_LIMIT:
            raise TensorFileError(f"its header says to be {length} bytes long, over {HEADER_LIMIT}")
        if length > size - 8:
            raise TensorFileError(f"it is cut off: a header of {length} bytes in a file of {size}")
        text = file.read(length)
    header = _parsed(text)
    metadata = _metadata(header.pop("__metadata__", {}))
    places = {name: _place(name, entry) for name, entry in header.items()}
    _check_offsets(places, size - 8 - length)
    if not places or size == 8 + length:
        return {n: torch.empty(shape, dtype=dtype) for n, (dtype, shape, _, _) in places.items()}, metadata
    storage = torch.UntypedStorage.from_file(str(path), False, size)
    whole = torch.empty(0, dtype=torch.uint8).set_(storage)  # type: ignore[arg-type]
    return {name: _mapped(whole, 8 + length, *place) for name, place in places.items()}, metadata


def _mapped(
    whole: Tensor, base: int, dtype: torch.dtype, shape: tuple[int, ...], start: int, stop: int
) -> Tensor:
    part = whole[base + start : base + stop]
    if (base + start) % dtype.itemsize:
        part = part.clone()  # written by someone who does not align
    return part.view(dtype).view(shape) if stop > start else torch.empty(shape, dtype=dtype)


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text, object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise TensorFileError(f"its header is no JSON ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise TensorFileError("its header is no JSON object")
    return header


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) != len(pairs):
        raise ValueError("a name comes twice")
    return named


def _metadata(given: Any) -> dict[str, str]:
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise TensorFileError("its metadata are not strings by name")
    return given


def _place(name: str, entry: Any) -> tuple[torch.dtype, tuple[int, ...], int, int]:
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, start, stop]
        sound = all(type(n) is int and 0 <= n < 1 << 60 for n in numbers) and isinstance(shape, list)
    except (TypeError, KeyError, ValueError):
        sound = False
    if not sound:
        raise TensorFileError(f"it does not say properly what {name!r} is")
    if dtype not in _DTYPES:
        raise TensorFileError(f"{name!r} has the dtype {str(dtype)[:20]!r}; known: {', '.join(_DTYPES)}")
    if math.prod(shape) * _DTYPES[dtype].itemsize != stop - start:
        raise TensorFileError(f"{name!r} has {stop - start} bytes, which is not {dtype} {shape}")
    return _DTYPES[dtype], tuple(shape), start, stop


def _check_offsets(places: Mapping[str, tuple[torch.dtype, tuple[int, ...], int, int]], size: int) -> None:
    """The numbers must lie one after another, without gaps or overlaps, to the end of the file."""
    reached = 0
    for start, stop, name in sorted((start, stop, name) for name, (_, _, start, stop) in places.items()):
        if start != reached:
            raise TensorFileError(f"the numbers of {name!r} begin at {start}, expected {reached}")
        reached = stop
    if reached > size:
        raise TensorFileError(f"it is cut off: {reached} bytes of numbers are announced, {size} are there")
    if reached < size:
        raise TensorFileError(f"it has {size - reached} bytes that belong to no tensor")

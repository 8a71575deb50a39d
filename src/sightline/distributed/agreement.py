"""What all processes must have alike, compared before anything is computed; a difference raises in all."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from sightline.distributed.link import Link, ProcessError

_ROOM = 48  # numbers in a message, unless said otherwise
_PIECE = 1 << 22  # entries that are summed up at a time
_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)  # odd: an entry that moves to another place changes the sum


def agreed(
    link: Link,
    doing: str,
    same: Mapping[str, int],
    own: Sequence[int],
    error: Exception | None = None,
    room: int = _ROOM,
) -> list[list[int]]:
    """The ``own`` of each process, once all are found to do the same.

    Args:
        link: to the others.
        doing: what this process is about to do, in a few words.
        same: numbers that must be equal, by name.
        own: numbers that may differ.
        error: why this process cannot take part; it is raised once the others have been told.
        room: for how many numbers, the same in all.

    Raises:
        ProcessError: a process failed, or does something else. ValueError: numbers differ.
    """
    values = [int(error is not None), zlib.crc32(doing.encode()), *same.values(), *own]
    every = link.gathered(values + [0] * (room - len(values)), doing)
    if error is not None:
        raise error
    for rank, (failed, _, *_) in enumerate(every):
        if failed:
            raise ProcessError(f"process {rank} of {link.count} failed before {doing}; it tells why.", rank)
    for rank, (_, what, *_) in enumerate(every):
        if what != values[1]:
            raise ProcessError(
                f"process {rank} of {link.count} does something else than process {link.rank}, which is at "
                f"{doing}. All processes must make the same calls, in the same order.",
                rank,
            )
    for at, name in enumerate(same, 2):
        check_equal(name, [one[at] for one in every])
    first = 2 + len(same)
    return [one[first : first + len(own)] for one in every]


def check_equal(name: str, values: Sequence[int | None]) -> None:
    """Raises where numbers of the processes differ; ``None``: of this one it is not known."""
    known = [(rank, value) for rank, value in enumerate(values) if value is not None]
    for rank, value in known:
        first, wanted = known[0]
        if value != wanted:
            told = f": {value} and {wanted}" if abs(value) < 1 << 31 and abs(wanted) < 1 << 31 else ""
            raise ValueError(
                f"{name}: process {rank} has another than process {first}{told}. Give all processes the same."
            )


def of_number(value: float | None) -> int:
    """A number as an integer that is equal where its bits are."""
    return -1 if value is None else int.from_bytes(struct.pack("<d", value), "little", signed=True) >> 1


def of_text(text: str) -> int:
    """A text as an integer."""
    return zlib.crc32(text.encode())


def of_tensor(tensor: Tensor | None) -> int:
    """A tensor as an integer that differs where a single bit does, nearly always."""
    if tensor is None:
        return -1
    total, first = 0, 1
    for piece in _pieces(tensor.detach()):
        numbers = _numbers(piece.reshape(-1))
        places = torch.arange(first, first + len(numbers), device=piece.device)
        total += int(((numbers ^ (numbers >> 29)) * (2 * places * _GAMMA + 1)).sum())
        first += len(numbers)
    return ((total & ((1 << 63) - 1)) ^ of_text(str(list(tensor.shape)))) >> 1


def _pieces(tensor: Tensor) -> Iterator[Tensor]:
    """A tensor in its order, in pieces that leave room for their numbers."""
    if tensor.numel() <= _PIECE:
        yield tensor
    elif tensor.shape[0] == 1:
        yield from _pieces(tensor[0])
    else:
        for some in tensor.split(max(1, _PIECE // tensor[0].numel())):
            yield from _pieces(some)


def _numbers(flat: Tensor) -> Tensor:
    """The same, as integers of 64 bits: the bits of numbers, several of one byte together."""
    if not flat.is_floating_point() and flat.dtype != torch.bool:
        return flat.long()
    bits = flat.contiguous().view(torch.uint8)
    return functional.pad(bits, (0, -len(bits) % 8)).view(torch.int64)

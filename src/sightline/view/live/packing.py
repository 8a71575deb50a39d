"""The weights of a model in a page: exactly those it has, in as few bytes as that takes.

Each tensor is kept in the smallest of four kinds that holds all its numbers exactly: 8 bits with a scale for
each row, float16, bfloat16 or float32. All of a kind lie in one block, sorted by the place of a byte in its
number, since the bytes of sign and exponent resemble each other and compress; then gzip, which browsers undo
by themselves, and five letters for four bytes, a sixteenth less than base64 takes.
"""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sightline.common.errors import CommandError
from sightline.models.eight_bits import SCALES, on_grid

WEIGHTS_LIMIT = 40_000_000
"""Bytes of weights that a page takes at most: what a browser unpacks in about a second."""

_GZIP = 31  # what zlib calls gzip's header around its widest window
_BYTES = {"i1": 1, "f2": 2, "b2": 2, "f4": 4}


class Part(NamedTuple):
    """A tensor, in a kind that holds it exactly."""

    kind: str
    tensor: Tensor


class PackedWeights(NamedTuple):
    """What web/live/weights.js reads.

    Attributes:
        tensors: name, shape, block and place of each.
        blocks: kind, count and text of each.
        size: bytes of the weights before they were compressed.
    """

    tensors: list[dict[str, Any]]
    blocks: list[dict[str, Any]]
    size: int


def packed(model: nn.Module, limit: int = WEIGHTS_LIMIT) -> PackedWeights:
    """The weights of a model, each tensor once; shared ones under their first name.

    Args:
        model: whose floating parameters and saved buffers are taken.
        limit: bytes of weights at most, as they are kept in the page.

    Raises:
        CommandError: the weights take more, or are not numbers that a page can hold.
    """
    parts: dict[str, Part] = {}
    for each, tensor in _unshared(model).items():
        parts |= _parts(each, tensor)
    size = sum(_BYTES[kind] * tensor.numel() for kind, tensor in parts.values())
    if size > limit:
        raise CommandError(
            f"the model's weights take {size / 1e6:.0f} MB, and a page carries at most {limit / 1e6:.0f} MB."
            + _remedy(parts)
        )
    tensors: list[dict[str, Any]] = []
    blocks: list[dict[str, Any]] = []
    for kind in _BYTES:
        own = {name: tensor for name, (each, tensor) in parts.items() if each == kind}
        at = 0
        for name, tensor in own.items():
            tensors.append({"name": name, "shape": list(tensor.shape), "block": len(blocks), "at": at})
            at += tensor.numel()
        if own:
            blocks.append({"kind": kind, "count": at, "text": _block(kind, list(own.values()))})
    return PackedWeights(tensors, blocks, size)


def _remedy(parts: dict[str, Part]) -> str:
    """What makes the weights smaller."""
    widest = max((_BYTES[kind] for kind, tensor in parts.values() if tensor.dim() > 1), default=1)
    share = {4: "a quarter", 2: "half"}.get(widest)
    return f" Saved as int8 (storage=int8, dtype=torch.int8) it takes {share}." if share else ""


def _parts(name: str, tensor: Tensor) -> dict[str, Part]:
    """A tensor in the smallest kind that holds all its numbers exactly; of 8 bits, with its scales."""
    if tensor.dtype == torch.float64:
        raise CommandError(
            f"{name} is float64, and a page computes in float32: convert the model with .float()"
        )
    if not tensor.is_floating_point() or tensor.is_complex():
        raise CommandError(f"{name} is {tensor.dtype}, and a page holds floating numbers")
    wide = tensor.float()
    if not bool(wide.isfinite().all()):
        raise CommandError(f"{name} holds a number that is not finite: this model cannot run")
    short = on_grid(wide)
    if short is not None:
        return {name: Part("i1", short.numbers), name + SCALES: Part("f4", short.scales)}
    for kind, dtype in (("f2", torch.float16), ("b2", torch.bfloat16)):
        if torch.equal(wide.to(dtype).float(), wide):
            return {name: Part(kind, tensor)}
    return {name: Part("f4", tensor)}


def _unshared(model: nn.Module) -> dict[str, Tensor]:
    """Each tensor once, under its first name, as ``save_pretrained`` has it."""
    seen: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = tensor.detach().cpu()
    return tensors


def _block(kind: str, tensors: list[Tensor]) -> str:
    flat = torch.cat([tensor.float().flatten() for tensor in tensors]).numpy()
    if kind != "b2":
        flat = flat.astype(f"<{kind}")
    planes = flat.astype(flat.dtype.newbyteorder("<")).view(np.uint8).reshape(len(flat), -1).T
    if kind == "b2":
        planes = planes[2:]
    # Bytes of exponents are unequally frequent, but not in runs: Huffman codes alone are smaller, by
    # a sixth, and faster. No time is in it: the same model makes the same page.
    packer = zlib.compressobj(wbits=_GZIP, strategy=zlib.Z_HUFFMAN_ONLY)
    data = packer.compress(np.ascontiguousarray(planes).tobytes()) + packer.flush()
    return _base85(data)


def _base85(data: bytes) -> str:
    """Four bytes as five digits of base 85, the first digit first; of a last group as many as tell its bytes.

    The digits are the ASCII characters from "(" on, with "~" for "<", which might end their element.
    """
    spare = -len(data) % 4
    numbers = np.frombuffer(data + bytes(spare), ">u4").astype(np.uint32)
    digits = np.empty((len(numbers), 5), np.uint8)
    for place in range(4, -1, -1):
        numbers, digits[:, place] = np.divmod(numbers, np.uint32(85))
    letters = digits + np.uint8(ord("("))
    letters[letters == ord("<")] = ord("~")
    return letters.tobytes()[: letters.size - spare].decode("ascii")

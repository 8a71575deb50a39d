"""The weights of a model in a page: exactly those it has, in as few bytes as that takes.

Each tensor is kept in the smallest of three kinds that holds all its numbers exactly: float16, bfloat16 or
float32. All of a kind lie in one block, sorted by the place of a byte in its number, since the bytes of sign
and exponent resemble each other and compress; then gzip, which browsers undo by themselves, and base64.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sightline.common.errors import CommandError

WEIGHTS_LIMIT = 40_000_000
"""Bytes of weights that a page takes at most: what a browser unpacks in about a second."""

_GZIP = 31  # what zlib calls gzip's header around its widest window
_BYTES = {"f2": 2, "b2": 2, "f4": 4}


class PackedWeights(NamedTuple):
    """What web/live/weights.js reads.

    Attributes:
        tensors: name, shape, block and place of each.
        blocks: kind, count and base64 text of each.
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
    kinds = {name: (_kind(name, tensor), tensor) for name, tensor in _unshared(model).items()}
    size = sum(_BYTES[kind] * tensor.numel() for kind, tensor in kinds.values())
    if size > limit:
        half = " Saved as float16 (storage=float16, dtype=torch.float16) it takes half."
        raise CommandError(
            f"the model's weights take {size / 1e6:.0f} MB, and a page carries at most {limit / 1e6:.0f} MB."
            + (half if _is_wide(kinds) else "")
        )
    tensors: list[dict[str, Any]] = []
    blocks: list[dict[str, Any]] = []
    for kind in _BYTES:
        own = {name: tensor for name, (each, tensor) in kinds.items() if each == kind}
        at = 0
        for name, tensor in own.items():
            tensors.append({"name": name, "shape": list(tensor.shape), "block": len(blocks), "at": at})
            at += tensor.numel()
        if own:
            blocks.append({"kind": kind, "count": at, "text": _block(kind, list(own.values()))})
    return PackedWeights(tensors, blocks, size)


def _is_wide(kinds: dict[str, tuple[str, Tensor]]) -> bool:
    return any(kind == "f4" and tensor.dim() > 1 for kind, tensor in kinds.values())


def _kind(name: str, tensor: Tensor) -> str:
    """The smallest kind that holds all numbers of a tensor exactly."""
    if tensor.dtype == torch.float64:
        raise CommandError(
            f"{name} is float64, and a page computes in float32: convert the model with .float()"
        )
    if not tensor.is_floating_point() or tensor.is_complex():
        raise CommandError(f"{name} is {tensor.dtype}, and a page holds floating numbers")
    wide = tensor.float()
    if not bool(wide.isfinite().all()):
        raise CommandError(f"{name} holds a number that is not finite: this model cannot run")
    for kind, dtype in (("f2", torch.float16), ("b2", torch.bfloat16)):
        if torch.equal(wide.to(dtype).float(), wide):
            return kind
    return "f4"


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
    if kind == "f2":
        flat = flat.astype("<f2")
    planes = flat.astype(flat.dtype.newbyteorder("<")).view(np.uint8).reshape(len(flat), -1).T
    if kind == "b2":
        planes = planes[2:]
    # Bytes of exponents are unequally frequent, but not in runs: Huffman codes alone are smaller, by
    # a sixth, and faster. No time is in it: the same model makes the same page.
    packer = zlib.compressobj(wbits=_GZIP, strategy=zlib.Z_HUFFMAN_ONLY)
    data = packer.compress(np.ascontiguousarray(planes).tobytes()) + packer.flush()
    return base64.b64encode(data).decode("ascii")

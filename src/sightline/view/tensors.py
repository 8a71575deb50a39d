"""Tensors inside a page: base64 text blocks, each stored once."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

_KINDS: dict[str, Any] = {"f2": "<f2", "f4": "<f4", "i4": "<i4", "i2": "<i2", "u1": "<u1"}


class TensorStore:
    """Collects tensors for a page; equal ones (a mask that every layer shares) are kept once."""

    def __init__(self) -> None:
        self._blocks: dict[str, tuple[str, bytes]] = {}

    def add(self, tensor: Tensor, kind: str) -> dict[str, Any]:
        """Keep ``tensor`` as numbers of ``kind`` (f2, f4, i4, i2, u1) and return its TensorRef."""
        array = np.ascontiguousarray(tensor.detach().cpu().numpy().astype(_KINDS[kind]))
        data = array.tobytes()
        digest = hashlib.sha256(kind.encode() + repr(array.shape).encode() + data).hexdigest()
        name, _ = self._blocks.setdefault(digest, (f"tensor-{len(self._blocks)}", data))
        return {"id": name, "kind": kind, "shape": list(array.shape)}

    def parts(self) -> Iterator[str]:
        """The text blocks, one at a time."""
        for name, data in self._blocks.values():
            yield f'<script type="text/plain" id="{name}">'
            yield base64.b64encode(data).decode("ascii")
            yield "</script>\n"

"""What is kept of a call, where, and as what: safe from being written, as small as it can be."""

from __future__ import annotations

import tempfile
import weakref
from pathlib import Path

import torch
from torch import Tensor

from sightline.backends import FIELDS, Problem, tensors, with_tensors
from sightline.tracing.storage import ByStorage, is_plain
from sightline.tracing.tensor_file import map_file, write_file

OFFLOADS = (None, "cpu", "disk")

# What each call has of its own; masks and biases are those of the layer before, mostly.
_OWN = {field.name for field in FIELDS if field.required}


class Keeper:
    """Keeps problems: copies what may be written later, casts, and offloads.

    Args:
        dtype: what queries, keys, values and biases are kept as; ``None`` for the model's own.
        offload: ``None`` (where they are), "cpu", or "disk".
    """

    def __init__(self, dtype: torch.dtype | None, offload: str | None) -> None:
        self._dtype, self._offload = dtype, offload
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._terms: ByStorage[dict[object, Tensor]] = ByStorage(16)
        self._count = 0

    def keep(self, problem: Problem, to_disk: bool = True) -> Problem:
        """The problem on tensors of its own."""
        kept = {}
        for name, tensor in tensors(problem).items():
            kept[name] = self._kept(tensor) if name in _OWN else self._shared(tensor)
        if self._offload == "disk" and to_disk:
            kept = self._on_disk(kept)
        return with_tensors(problem, kept)

    def _shared(self, tensor: Tensor) -> Tensor:
        """One copy for all layers that have the same."""
        if not is_plain(tensor) or tensor.is_inference():
            return self._kept(tensor)
        known = self._terms.get(tensor)
        if known is None:
            known = {}
            self._terms.set(tensor, known)
        key = (tensor._version, tensor.shape, tensor.stride(), tensor.storage_offset())
        if key not in known:
            known[key] = self._kept(tensor)
        return known[key]

    def _kept(self, tensor: Tensor) -> Tensor:
        target = self._dtype if self._dtype is not None and tensor.is_floating_point() else tensor.dtype
        device = tensor.device if self._offload is None else torch.device("cpu")
        if target != tensor.dtype or device != tensor.device:
            return tensor.detach().to(device=device, dtype=target)
        return tensor.clone() if _may_be_written(tensor) else tensor.detach()

    def _on_disk(self, kept: dict[str, Tensor]) -> dict[str, Tensor]:
        if self._folder is None:
            # Windows removes no file that is still mapped: then it is left to the system.
            self._folder = tempfile.TemporaryDirectory(prefix="sightline-trace-", ignore_cleanup_errors=True)
        path = Path(self._folder.name) / f"{self._count}.safetensors"
        self._count += 1
        write_file(path, kept, {})
        mapped, _ = map_file(path)
        return mapped

    def close(self, owner: object) -> None:
        """Temporary files vanish with ``owner``."""
        self._terms.clear()
        if self._folder is not None:
            weakref.finalize(owner, self._folder.cleanup)


def _may_be_written(tensor: Tensor) -> bool:
    """Whether it is likely to be written to later, unnoticed: caches, parameters.

    What has been written before may be written again. Anything else counts how often it was written, and a
    matrix refuses to be read if that changed.
    """
    return isinstance(tensor, torch.nn.Parameter) or tensor.is_inference() or tensor._version > 0

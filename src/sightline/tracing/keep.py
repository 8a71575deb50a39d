"""What is kept of a call, where, and as what: safe from being written, as small as it can be."""

from __future__ import annotations

import math
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sightline.backends.problem import Problem
from sightline.backends.select import tensors, with_tensors
from sightline.matrix import DENSE_LIMIT
from sightline.positions import key_ranges
from sightline.tracing.found import Found
from sightline.tracing.masks import MaskReader
from sightline.tracing.storage import ByStorage, is_plain
from sightline.tracing.tensor_file import map_file, write_file

OFFLOADS = (None, "cpu", "disk")


def problem_of(found: Found, masks: MaskReader) -> Problem:
    """The attention problem of a call, on the model's own tensors.

    Raises:
        MemoryError: for weights that can only be kept densely and are too large for that.
    """
    if found.problem is not None:
        return replace(found.problem, dropout=0.0, seed=None)
    key, value = _ungrouped(found.key, found.value)
    problem = Problem(
        found.query,
        key,
        value,
        scale=1 / math.sqrt(found.query.shape[3]) if found.scale is None else float(found.scale),
        softcap=found.softcap,
        sinks=found.sinks,
        ranges=found.ranges,
    )
    if found.dense is not None:
        size = found.dense.numel() * 4
        if size > DENSE_LIMIT:
            raise MemoryError(
                f"the scores are no q·kᵀ, and the weights themselves, {list(found.dense.shape)}, take "
                f"{size / 1e9:.1f} GB"
            )
        return replace(problem, bias=found.dense.to(torch.float32).log())
    return _with_masks(problem, found, masks)


def _with_masks(problem: Problem, found: Found, masks: MaskReader) -> Problem:
    _, _, n, m = problem.shape
    lowered = [masks.added(t, n, m) for t in found.added]
    lowered += [masks.visible(t, n, m) for t in found.visible]
    lowered += [masks.visible(t, n, m, inverted=True) for t in found.hidden]
    if found.causal:
        lowered.append(masks.causal(n, m, problem.query.device))
    for one in lowered:
        if one.ranges is not None:
            both = one.ranges if problem.ranges is None else key_ranges.intersect(problem.ranges, one.ranges)
            problem = replace(problem, ranges=both)
        if one.visible is not None:
            seen = one.visible if problem.visible is None else problem.visible & one.visible
            problem = replace(problem, visible=seen)
        if one.bias is not None:
            bias = one.bias if problem.bias is None else problem.bias + one.bias
            problem = replace(problem, bias=bias)
    return problem


def _ungrouped(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values once for each group of heads, where a model repeated them for its query heads."""
    heads = key.shape[1]
    if heads < 2 or value.shape[1] != heads or 0 in key.shape or 0 in value.shape:
        return key, value
    if not torch.equal(key[0, 0, 0], key[0, 1, 0]):
        return key, value
    some = key[0, :, :: max(1, (key.shape[2] - 1) // 3)]
    equal = (some == some[:1]).flatten(1).all(-1)
    repeats = heads if bool(equal.all()) else int((~equal).to(torch.uint8).argmax())
    if repeats == 1 or heads % repeats:
        return key, value
    apart = [t.unflatten(1, (heads // repeats, repeats)) for t in (key, value)]
    if any(not torch.equal(t, t[:, :, :1].expand_as(t)) for t in apart):
        return key, value
    # Copies: a view would keep the repeated ones alive.
    return apart[0][:, :, 0].clone(), apart[1][:, :, 0].clone()


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
            kept[name] = self._kept(tensor) if name in ("query", "key", "value") else self._shared(tensor)
        if self._offload == "disk" and to_disk:
            kept = self._on_disk(kept)
        return with_tensors(problem, kept)

    def _shared(self, tensor: Tensor) -> Tensor:
        """Masks and biases are those of the layer before, mostly: one copy for all."""
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
            self._folder = tempfile.TemporaryDirectory(prefix="sightline-trace-")
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
    """Whether somebody is likely to write to it without a trace of it: caches, parameters.

    What has been written before may be written again. Anything else counts how often it was written, and a
    matrix refuses to be read if that changed.
    """
    return isinstance(tensor, torch.nn.Parameter) or tensor.is_inference() or tensor._version > 0

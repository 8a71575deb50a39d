"""A boolean attention mask that passes for a tensor but is stored as key ranges.

Transformers passes masks through model code that expects a [B,1,N,M] bool tensor: it asks for the shape,
slices, moves, copies, inverts or concatenates. This one has the shape without the N x M numbers. Slicing
rows, columns and batches, moving and copying keep it small; every other operation is done on the dense
tensor that it stands for, so the result is right, and no larger than a plain mask would have been.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from sightline.masks import Mask, dense, ranges

aten = torch.ops.aten
_SUMS = (aten.add, aten.add_, aten.sub, aten.sub_)


class RangeMask(Tensor):
    """Query i of batch entry b sees the keys ``low[b,i] <= j < high[b,i]`` for which ``keys[b,j]`` is True.

    Attributes:
        low, high: [1|B, 1|N] int64, on the mask's device; an empty range has low >= high.
        keys: [B,M] bool, False for padding, or ``None`` where there is none.
    """

    low: Tensor
    high: Tensor
    keys: Tensor | None

    # Operations go straight to __torch_dispatch__, which sees far fewer of them.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, low: Tensor, high: Tensor, keys: Tensor | None, shape: Sequence[int]) -> RangeMask:
        mask: RangeMask = torch.Tensor._make_wrapper_subclass(
            cls, tuple(shape), dtype=torch.bool, device=low.device
        )
        mask.low, mask.high, mask.keys = low, high, keys
        return mask

    def dense(self) -> Tensor:
        """The same set as a plain [B,1,N,M] bool tensor."""
        column = torch.arange(self.shape[3], device=self.device)
        seen = (column >= self.low[:, None, :, None]) & (column < self.high[:, None, :, None])
        if self.keys is not None:
            seen = seen & self.keys[:, None, None]
        return seen.expand(self.shape).contiguous()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"RangeMask(shape={list(self.shape)}, device={str(self.device)!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        shortcut = _SHORTCUTS.get(func)
        if shortcut is not None and isinstance(args[0], RangeMask):
            result = shortcut(*args, **kwargs)
            if result is not NotImplemented:
                return result
        _check_use(func, args, kwargs)
        args, kwargs = tree_map(_plain, (args, kwargs))
        return func(*args, **kwargs)

    def __tensor_flatten__(self) -> tuple[list[str], object]:
        return ["low", "high"] + (["keys"] if self.keys is not None else []), None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], context: object, size: Any, stride: Any) -> RangeMask:
        return RangeMask(inner["low"], inner["high"], inner.get("keys"), size)


def as_sightline(mask: RangeMask) -> Mask:
    """The same set as one of Sightline's masks."""
    # Not a method: torch.compile treats methods of tensors as tensor operations.
    of_rows = ranges(mask.low[:, None], mask.high[:, None])
    return of_rows if mask.keys is None else of_rows & dense(mask.keys[:, None, None])


def _plain(value: Any) -> Any:
    return value.dense() if isinstance(value, RangeMask) else value


def _check_use(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raises for what would otherwise give a wrong result without an error."""
    if func._schema.is_mutable and isinstance(args[0], RangeMask):
        raise TypeError(
            f"attention mask: {func} would write into a Sightline mask, which is not stored as numbers. "
            "Write into mask.dense() and use that."
        )
    if func.overloadpacket in _SUMS:
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        if any(tensor.is_floating_point() for tensor in tensors):
            # Not a TypeError: Python's operators would replace it with one without this message.
            raise RuntimeError(
                "attention mask: this model adds its mask as if it held 0 and -inf, but under "
                'attn_implementation="sightline" masks are bool (True = may look), as under "sdpa". '
                'Load this model with attn_implementation="eager".'
            )


def _same(mask: RangeMask, **_: Any) -> RangeMask:
    return RangeMask(mask.low, mask.high, mask.keys, mask.shape)


def _moved(mask: RangeMask, *, dtype: Any = None, device: Any = None, **_: Any) -> Any:
    if dtype not in (None, torch.bool):
        return NotImplemented
    device = mask.device if device is None else device
    keys = None if mask.keys is None else mask.keys.to(device)
    return RangeMask(mask.low.to(device), mask.high.to(device), keys, mask.shape)


def _sliced(
    mask: RangeMask, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    dim %= 4
    first, stop, stride = slice(start, end, step).indices(mask.shape[dim])
    if (first, stop, stride) == (0, mask.shape[dim], 1):
        return _same(mask)  # PyTorch 2.6 also slices along axes of which everything is kept
    if stride != 1 or dim == 1:
        return NotImplemented
    size = max(0, stop - first)
    shape = [*mask.shape[:dim], size, *mask.shape[dim + 1 :]]
    low, high, keys = mask.low, mask.high, mask.keys
    if dim == 3:
        keys = None if keys is None else keys[:, first : first + size]
        return RangeMask((low - first).clamp(0, size), (high - first).clamp(0, size), keys, shape)
    axis = 0 if dim == 0 else 1
    low, high = (_narrow(bound, axis, first, size, mask.shape[dim]) for bound in (low, high))
    if keys is not None and dim == 0:
        keys = keys[first : first + size]
    return RangeMask(low, high, keys, shape)


def _narrow(bound: Tensor, axis: int, first: int, size: int, full: int) -> Tensor:
    """A part of a bound along an axis, unless that has size 1 and stands for all."""
    return bound if bound.shape[axis] != full else bound.narrow(axis, first, size)


# The operations whose result consists of ranges again.
_SHORTCUTS: dict[Any, Callable[..., Any]] = {
    aten.detach.default: _same,
    aten.alias.default: _same,
    aten.clone.default: _same,
    aten._to_copy.default: _moved,
    aten.slice.Tensor: _sliced,
}

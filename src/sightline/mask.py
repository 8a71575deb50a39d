"""Who may look at whom: masks as sets of (query, key) pairs.

Each mask says what it shows in two ways. ``visible`` is the definition, N x M, read by the reference.
``lower`` is what the backends get: for each query one or a few ranges of keys, linear in N, and a boolean
tensor only where the user gave one. Both must agree; the tests hold them against each other.

Letters: B batch, H heads, N queries, M keys, R ranges. Query i stands at position i + offset.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sightline import kept_ranges, key_ranges
from sightline.align import Align, check_align, first_position, positions
from sightline.check import check_device, check_integers, fits, is_eager

Shape = tuple[int, int, int, int]


class Lowered(NamedTuple):
    """A mask for a backend: a key is seen if it lies in one of ``ranges`` and ``visible`` is True.

    Attributes:
        ranges: [1|B, 1|H, N, R, 2] int32, or ``None`` for no limit.
        visible: bool, 4-D, broadcasts to [B,H,N,M], or ``None`` for no limit.
    """

    ranges: Tensor | None
    visible: Tensor | None


class Mask:
    """A set of (query, key) pairs that may be looked at. Combine masks with ``&`` and ``|``."""

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        """The definition: a bool tensor that broadcasts to [B,H,N,M], True where the query may look."""
        raise NotImplementedError(f"{type(self).__name__} does not define visible()")

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        """The same set for the backends, linear in N unless the user gave a dense tensor."""
        raise NotImplementedError(f"{type(self).__name__} does not define lower()")

    def __and__(self, other: Mask | Tensor) -> Mask:
        return Both(self, as_mask(other))

    def __or__(self, other: Mask | Tensor) -> Mask:
        return Either(self, as_mask(other))

    __rand__ = __and__
    __ror__ = __or__


def as_mask(mask: Mask | Tensor) -> Mask:
    """A mask as it is; a bool tensor as ``dense``.

    Raises:
        TypeError: for anything else; a float tensor is a bias.
    """
    if isinstance(mask, Mask):
        return mask
    if isinstance(mask, Tensor):
        return dense(mask)
    raise TypeError(
        f"mask: expected a sightline mask or a bool tensor, got {type(mask).__name__}. "
        "Make one with sightline.causal(), window(), prefix(), lengths(), documents() or dense()."
    )


@dataclass(frozen=True, eq=False)
class Window(Mask):
    """Keys from ``left`` before to ``right`` after the query's position; ``None`` leaves a side open."""

    left: int | None
    right: int | None
    align: Align

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        position, key = _grid(shape, self.align, device)
        seen = torch.ones_like(position == key)
        if self.left is not None:
            seen = seen & (key >= position - self.left)
        if self.right is not None:
            seen = seen & (key <= position + self.right)
        return seen

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        b, _, n, m = shape
        if not isinstance(self.align, Tensor) and device.type == "cpu":
            kept = kept_ranges.band(self.left, self.right, first_position(self.align, n, m), n, m)
            if kept is not None:
                return Lowered(kept, None)
        position = positions(self.align, b, n, m, device)[:, None]
        return Lowered(key_ranges.band(position, self.left, self.right, m), None)


@dataclass(frozen=True, eq=False)
class Span(Mask):
    """Keys ``low <= j < high``, as integers or tensors that broadcast to [B,H,N]."""

    low: Tensor | int
    high: Tensor | int
    name: str = "ranges"

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        low, high = self._bounds(shape, device)
        key = torch.arange(shape[3], device=device)
        return (key >= low[..., None]) & (key < high[..., None])

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        n, m = shape[2:]
        if self.name == "lengths" and isinstance(self.high, Tensor) and is_eager(self.high):
            _check_lengths(self.high, shape, device)
            kept = None if device.type != "cpu" else kept_ranges.until(self.high.tolist(), n, m)
            if kept is not None:
                return Lowered(kept, None)
        low, high = torch.broadcast_tensors(*self._bounds(shape, device))
        return Lowered(key_ranges.one(low, high, m).expand(-1, -1, n, -1, -1), None)

    def _bounds(self, shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
        return self._bound("lo", self.low, shape, device), self._bound("hi", self.high, shape, device)

    def _bound(self, side: str, bound: Tensor | int, shape: Shape, device: torch.device) -> Tensor:
        if isinstance(bound, int):
            return torch.full((1, 1, 1), bound, device=device)
        if self.name == "lengths":
            _check_lengths(bound, shape, device)
            return bound[:, None, None]
        check_device(self.name, bound, device)
        if self.name == "prefix":
            if bound.dim() > 1 or bound.numel() not in (1, shape[0]):
                raise ValueError(
                    f"prefix: expected a number or one per batch entry (B={shape[0]}), "
                    f"got shape {list(bound.shape)}."
                )
            return bound.reshape(-1, 1, 1)
        return fits(f"{self.name} {side}", bound, ("B", "H", "N"), shape[:3])


@dataclass(frozen=True, eq=False)
class Documents(Mask):
    """Queries and keys of the same document id; ids stand in contiguous runs."""

    ids: Tensor
    key_ids: Tensor | None

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        query_ids, key_ids = self._checked(shape, device)
        return query_ids[:, None, :, None] == key_ids[:, None, None, :]

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        query_ids, key_ids = self._checked(shape, device)
        rows = max(query_ids.shape[0], key_ids.shape[0])
        query_ids, key_ids = query_ids.expand(rows, -1).contiguous(), key_ids.expand(rows, -1)
        # A label's keys are one run, so its first key and its count say where the run lies.
        labels, order = key_ids.sort(dim=-1, stable=True)
        first = torch.searchsorted(labels, query_ids)
        count = torch.searchsorted(labels, query_ids, right=True) - first
        inside = first.clamp(max=max(0, shape[3] - 1))
        low = order.gather(-1, inside) if shape[3] else torch.zeros_like(first)
        return Lowered(key_ranges.one(low[:, None], (low + count)[:, None], shape[3]), None)

    def _checked(self, shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
        b, _, n, m = shape
        if self.key_ids is None and n != m:
            raise ValueError(
                f"documents: ids alone need as many queries as keys, got N={n} and M={m}. "
                "Give the keys' ids as well: documents(query_ids, key_ids)."
            )
        keys = self.ids if self.key_ids is None else self.key_ids
        return self._fit("ids", self.ids, b, n, device), self._fit("key_ids", keys, b, m, device)

    def _fit(self, name: str, ids: Tensor, b: int, length: int, device: torch.device) -> Tensor:
        check_device(f"documents {name}", ids, device)
        if (ids.dim() == 2 and ids.shape[0] not in (1, b)) or ids.shape[-1] != length:
            raise ValueError(
                f"documents: {name} has shape {list(ids.shape)}, but the axis has length {length} "
                f"and the batch B={b}. Give [{length}] or [{b}, {length}] ids."
            )
        return ids if ids.dim() == 2 else ids[None]


@dataclass(frozen=True, eq=False)
class Dense(Mask):
    """A bool tensor that broadcasts to [B,H,N,M], True where the query may look."""

    tensor: Tensor

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        check_device("mask", self.tensor, device)
        return fits("mask", self.tensor, ("B", "H", "N", "M"), shape)

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        seen = self.visible(shape, device)
        if seen.shape[2] == 1 and shape[3] > 0 and is_eager(seen):
            # One row for every query, as key padding is: a few runs of keys, nearly always one.
            runs = key_ranges.from_row(seen.expand(-1, -1, -1, shape[3])[:, :, 0], limit=4)
            if runs is not None:
                return Lowered(runs[:, :, None].expand(-1, -1, shape[2], -1, -1), None)
        return Lowered(None, seen)


@dataclass(frozen=True, eq=False)
class Both(Mask):
    """Intersection: what both masks show."""

    left: Mask
    right: Mask

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        return self.left.visible(shape, device) & self.right.visible(shape, device)

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        left, right = self.left.lower(shape, device), self.right.lower(shape, device)
        return Lowered(
            _optional(key_ranges.intersect, left.ranges, right.ranges),
            _optional(torch.logical_and, left.visible, right.visible),
        )


@dataclass(frozen=True, eq=False)
class Either(Mask):
    """Union: what either mask shows."""

    left: Mask
    right: Mask

    def visible(self, shape: Shape, device: torch.device) -> Tensor:
        return self.left.visible(shape, device) | self.right.visible(shape, device)

    def lower(self, shape: Shape, device: torch.device) -> Lowered:
        left, right = self.left.lower(shape, device), self.right.lower(shape, device)
        if left.ranges is not None and right.ranges is not None and left.visible is right.visible is None:
            return Lowered(key_ranges.unite(left.ranges, right.ranges), None)
        # A dense tensor takes part, so the union is as large as what the user gave.
        return Lowered(None, _dense_of(left, shape[3]) | _dense_of(right, shape[3]))


def causal(align: Align = "bottom-right") -> Mask:
    """Each query sees the keys up to its own position: j <= i + offset.

    Args:
        align: ``"bottom-right"`` (offset = M - N: the last query sees the last key, as KV caches need),
            ``"top-left"`` (offset = 0, PyTorch's reading), an integer offset, or a [B] integer tensor of
            offsets (a static cache with its own fill per batch entry).

    Raises:
        ValueError, TypeError: for an align that is none of these.

    Example:
        >>> import sightline, torch
        >>> sightline.causal().visible((1, 1, 2, 3), torch.device("cpu"))[0, 0].int().tolist()
        [[1, 1, 0], [1, 1, 1]]
    """
    return Window(None, 0, check_align("causal", align))


def window(left: int | None, right: int | None, align: Align = "bottom-right") -> Mask:
    """Each query sees a band of keys: i + offset - left <= j <= i + offset + right.

    Args:
        left: how many keys before the query's position, or ``None`` for all.
        right: how many keys after it, or ``None`` for all.
        align: see :func:`causal`.

    Raises:
        ValueError: for a negative ``left`` or ``right``.

    Source: Beltagy, Peters & Cohan 2020, "Longformer" (sliding window).

    Example:
        >>> import sightline, torch
        >>> sightline.window(1, 0).visible((1, 1, 3, 3), torch.device("cpu"))[0, 0].int().tolist()
        [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    for name, size in (("left", left), ("right", right)):
        if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
            raise TypeError(f"window: {name} must be an integer or None, got {size!r}.")
        if size is not None and size < 0:
            raise ValueError(f"window: {name} must be 0 or more, got {size}. None leaves that side open.")
    return Window(left, right, check_align("window", align))


def prefix(n: int | Tensor) -> Mask:
    """Every query sees the first ``n`` keys; with ``|`` the usual way to keep a prompt or sink tokens.

    Args:
        n: an integer, or a [B] integer tensor; 0 shows nothing, more than M shows all.

    Raises:
        ValueError: if ``n`` is negative.

    Example:
        >>> import sightline, torch
        >>> prefix_lm = sightline.prefix(2) | sightline.causal()
        >>> prefix_lm.visible((1, 1, 3, 3), torch.device("cpu"))[0, 0].int().tolist()
        [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    """
    if isinstance(n, Tensor):
        check_integers("prefix", n)
        if is_eager(n) and n.numel() and int(n.min()) < 0:
            raise ValueError(f"prefix: n must be 0 or more, got {int(n.min())}.")
    elif isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"prefix: n must be an integer or an integer tensor, got {n!r}.")
    elif n < 0:
        raise ValueError(f"prefix: n must be 0 or more, got {n}.")
    return Span(0, n, name="prefix")


def lengths(kv_lengths: Tensor | Sequence[int]) -> Mask:
    """Batch entry b has ``kv_lengths[b]`` keys; the rest is padding. 0 is allowed.

    Args:
        kv_lengths: [B] integers from 0 to M.

    Raises:
        ValueError: if a length is negative or larger than M, or there is not one for each batch entry.

    Example:
        >>> import sightline, torch
        >>> sightline.lengths([1, 3]).visible((2, 1, 1, 3), torch.device("cpu"))[:, 0, 0].int().tolist()
        [[1, 0, 0], [1, 1, 1]]
    """
    tensor = kv_lengths if isinstance(kv_lengths, Tensor) else torch.as_tensor(list(kv_lengths)).long()
    check_integers("lengths", tensor)
    return Span(0, tensor, name="lengths")


def documents(ids: Tensor, key_ids: Tensor | None = None) -> Mask:
    """Packed documents: a query sees the keys that carry its own document id.

    Args:
        ids: [N] or [B,N] integers >= 0 in contiguous runs; the labels may come in any order.
        key_ids: [M] or [B,M], where the keys' ids differ from the queries'; needed when N != M.

    Raises:
        ValueError: for a negative id, or an id that comes back after another one.

    Example:
        >>> import sightline, torch
        >>> mask = sightline.documents(torch.tensor([7, 7, 2]))
        >>> mask.visible((1, 1, 3, 3), torch.device("cpu"))[0, 0].int().tolist()
        [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    """
    _check_document_ids("ids", ids, runs=key_ids is None)
    if key_ids is not None:
        _check_document_ids("key_ids", key_ids, runs=True)
    return Documents(ids, key_ids)


def dense(tensor: Tensor) -> Mask:
    """Any mask at all, as a bool tensor that broadcasts to [B,H,N,M]; True = may look.

    Raises:
        TypeError: if the tensor is not bool; a float tensor is a bias.

    Example:
        >>> import sightline, torch
        >>> mask = sightline.dense(torch.eye(3, dtype=torch.bool)) | sightline.prefix(1)
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"mask: expected a bool tensor, got {type(tensor).__name__}.")
    if tensor.dtype != torch.bool:
        remedy = "Give a floating tensor as bias=." if tensor.is_floating_point() else "Use tensor.bool()."
        raise TypeError(f"mask: expected torch.bool (True = may look), got {tensor.dtype}. {remedy}")
    return Dense(tensor)


def ranges(lo: Tensor | int, hi: Tensor | int) -> Mask:
    """Each query sees the keys lo <= j < hi; what every other mask but ``dense`` comes down to.

    Args:
        lo, hi: integers or integer tensors that broadcast to [B,H,N]; cut to [0, M]; lo >= hi is empty.

    Example:
        >>> import sightline, torch
        >>> left_padded = sightline.ranges(torch.tensor([2, 0]).view(2, 1, 1), 4)
        >>> left_padded.visible((2, 1, 1, 4), torch.device("cpu"))[:, 0, 0].int().tolist()
        [[0, 0, 1, 1], [1, 1, 1, 1]]
    """
    for name, bound in (("lo", lo), ("hi", hi)):
        if isinstance(bound, Tensor):
            check_integers(f"ranges {name}", bound)
        elif isinstance(bound, bool) or not isinstance(bound, int):
            raise TypeError(f"ranges: {name} must be an integer or an integer tensor, got {bound!r}.")
    return Span(lo, hi)


def _grid(shape: Shape, align: Align, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions of the queries [1|B,1,N,1] and of the keys [M]."""
    b, _, n, m = shape
    return positions(align, b, n, m, device)[:, None, :, None], torch.arange(m, device=device)


def _check_lengths(bound: Tensor, shape: Shape, device: torch.device) -> None:
    check_device("lengths", bound, device)
    if bound.shape != (shape[0],):
        raise ValueError(
            f"lengths: expected one length per batch entry, [B]=[{shape[0]}], got shape {list(bound.shape)}."
        )
    if not is_eager(bound) or not bound.numel():
        return
    found = bound.tolist()
    least, most = min(found), max(found)
    if least < 0:
        raise ValueError(f"lengths: a length must be 0 or more, got {least}.")
    if most > shape[3]:
        raise ValueError(
            f"lengths: a length of {most} goes beyond the M={shape[3]} keys (axis M). "
            "Lengths count keys, not queries."
        )


def _check_document_ids(name: str, ids: Tensor, runs: bool) -> None:
    if not isinstance(ids, Tensor):
        raise TypeError(f"documents: {name} must be an integer tensor, got {type(ids).__name__}.")
    check_integers(f"documents {name}", ids)
    if ids.dim() not in (1, 2):
        raise ValueError(f"documents: {name} must be [N] or [B,N], got shape {list(ids.shape)}.")
    if not is_eager(ids) or not ids.numel():
        return
    if int(ids.min()) < 0:
        raise ValueError(f"documents: ids must be 0 or more, got {int(ids.min())} in {name}.")
    for row in ids.reshape(-1, ids.shape[-1]) if runs else ():
        labels = torch.unique_consecutive(row)
        again = labels.sort().values
        repeated = again[1:][again[1:] == again[:-1]]
        if repeated.numel():
            raise ValueError(
                f"documents: id {int(repeated[0])} in {name} comes back after another id; "
                "each document must be one contiguous run. Sort the tokens by document, or use dense()."
            )


def _optional(
    join: Callable[[Tensor, Tensor], Tensor], left: Tensor | None, right: Tensor | None
) -> Tensor | None:
    """``join(left, right)``, where ``None`` stands for no limit."""
    if left is None:
        return right
    return left if right is None else join(left, right)


def _dense_of(lowered: Lowered, keys: int) -> Tensor:
    seen = None if lowered.ranges is None else key_ranges.contains(lowered.ranges, slice(0, keys))
    both = _optional(torch.logical_and, seen, lowered.visible)
    if both is None:
        raise ValueError("mask: a mask with neither ranges nor a tensor cannot be lowered.")
    return both

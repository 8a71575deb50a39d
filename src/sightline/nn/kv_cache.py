"""The keys and values of one layer, kept from step to step while a sequence grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.common.check import check_strided, integer, integers_tensor, is_eager

_FIRST_CAPACITY = 64


class KVCache:
    """Keys and values of one attention layer, so that each step computes only its own.

    After steps of n₁, n₂, … tokens, ``key[b,g,j]`` is the j-th key that entry b was given, and likewise the
    value; M = Σ nᵢ. Rows of one head lie next to each other in memory, as decoding reads them.

    Without ``capacity`` the buffer doubles when it is full: M appended rows cost at most 2·M copied ones,
    however many steps they came in. With it the buffer is allocated once and nothing is ever copied.

    What :meth:`append` returned stays as it was while more is appended: the new rows lie after it, or in a
    larger buffer of their own. Only :meth:`truncate` followed by :meth:`append` overwrites rows that were
    handed out; an :class:`AttentionMatrix` that was made from them then refuses to compute.

    In a ragged batch entries grow by different lengths (see :meth:`append`). Each entry's rows begin at 0;
    the rows past its own length are padding, to be hidden with ``sightline.lengths(cache.lengths)`` or with
    a causal mask aligned to the lengths before the step.

    Args:
        capacity: the most tokens M; allocated at the first append. Default: grows.

    Raises:
        ValueError: if ``capacity`` is below 1; TypeError: if it is no integer.

    Example:
        >>> import sightline, torch
        >>> from sightline.nn import KVCache
        >>> cache = KVCache()
        >>> for _ in range(3):
        ...     query, key_step, value_step = torch.randn(3, 1, 2, 1, 16)  # [B,H,1,D]: one token
        ...     key, value = cache.append(key_step, value_step)
        ...     context = sightline.attention(query, key, value)
        >>> len(cache), key.shape, context.shape
        (3, torch.Size([1, 2, 3, 16]), torch.Size([1, 2, 1, 16]))
    """

    def __init__(self, capacity: int | None = None) -> None:
        if capacity is not None:
            capacity = integer("capacity", capacity, 1, remedy="None lets the cache grow.")
        self._fixed = capacity
        self._key: Tensor | None = None
        self._value: Tensor | None = None
        self._filled: list[int] = []  # each entry's length
        self._shown: list[int] = []  # per entry, rows that some view shows as its own

    # --- what it holds ------------------------------------------------------------------------------

    def __len__(self) -> int:
        """M, the length of the longest entry."""
        return max(self._filled, default=0)

    def __bool__(self) -> bool:
        """True, empty or not: ``cache or other`` means "is there a cache"."""
        return True

    def __repr__(self) -> str:
        return f"KVCache(length={len(self)}, capacity={self.capacity})"

    @property
    def capacity(self) -> int:
        """Tokens that fit without copying; 0 before the first append, unless it was given."""
        return self._fixed or (0 if self._key is None else self._key.shape[2])

    @property
    def lengths(self) -> Tensor:
        """[B] int64, how many keys each entry has, for :func:`sightline.lengths`; empty before any append."""
        device = None if self._key is None else self._key.device
        return torch.tensor(self._filled, dtype=torch.int64, device=device)

    @property
    def ragged(self) -> bool:
        """Whether entries have different lengths."""
        return len(set(self._filled)) > 1

    @property
    def start(self) -> int | Tensor:
        """Where the next token stands, for ``align=`` and rotary offsets: M, or [B] where entries differ."""
        return self.lengths if self.ragged else len(self)

    @property
    def key(self) -> Tensor:
        """[B,G,M,D], all keys so far: a view.

        Raises:
            ValueError: before the first append.
        """
        return _appended(self._key)[:, :, : len(self)]

    @property
    def value(self) -> Tensor:
        """[B,G,M,E], all values so far: a view.

        Raises:
            ValueError: before the first append.
        """
        return _appended(self._value)[:, :, : len(self)]

    # --- what changes it ----------------------------------------------------------------------------

    def append(
        self, key: Tensor, value: Tensor, *, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Adds the keys and values of one step.

        Args:
            key: [B,G,n,D], any dtype and device; the first append decides both, and B, G, D.
            value: [B,G,n,E].
            lengths: [B] integers from 0 to n: of entry b only the first ``lengths[b]`` rows count.
                Default: all of them.

        Returns:
            All keys [B,G,M,D] and all values [B,G,M,E] so far: views, M the longest entry's length.

        Raises:
            ValueError: for shapes, devices or lengths that do not fit what is there, beyond the given
                ``capacity``, or for tensors that require gradients, which a cache cannot carry.
            TypeError: for another dtype than what is there.

        Example:
            >>> import torch
            >>> from sightline.nn import KVCache
            >>> cache = KVCache(capacity=8)
            >>> prompt = torch.randn(2, 1, 3, 4)  # the second entry is shorter: padded on the right
            >>> key, value = cache.append(prompt, prompt, lengths=[3, 1])
            >>> step = torch.randn(2, 1, 1, 4)
            >>> key, value = cache.append(step, step)
            >>> key.shape, cache.lengths.tolist()
            (torch.Size([2, 1, 4, 4]), [4, 2])
        """
        self._check(key, value)
        steps = _counts("lengths", lengths, key.shape[0], key.shape[2], "n")
        filled = self._filled or [0] * key.shape[0]
        ends = [at + step for at, step in zip(filled, steps, strict=True)]
        self._make_room(key, value, max(ends, default=0))
        _write(_appended(self._key), key, filled, steps, self._shown)
        _write(_appended(self._value), value, filled, steps, self._shown)
        self._filled = ends
        self._shown = [max(pair) for pair in zip(self._shown, ends, strict=True)]
        return self.key, self.value

    def truncate(self, n: int | Tensor | Sequence[int]) -> None:
        """Keeps the first ``n`` tokens of each entry, as speculative decoding wants when a guess was wrong.

        Nothing is copied. Tokens that are appended next overwrite the dropped ones, in views handed out
        earlier too.

        Args:
            n: a number for all entries, at most M, or [B] numbers, each at most its entry's length. Entries
                that are shorter than a common number stay as they are.

        Raises:
            ValueError: for a negative number or one beyond what is there.
        """
        if not isinstance(n, Sequence) and not getattr(n, "ndim", 0):  # no list, tensor or array of them
            n = integer("n", n)
            if not 0 <= n <= len(self):
                raise ValueError(f"n: {n} does not lie between 0 and the cache's length M={len(self)}.")
            self._filled = [min(n, at) for at in self._filled]
            return
        kept = _counts("n", n, len(self._filled), len(self), "M")
        for b, (wanted, at) in enumerate(zip(kept, self._filled, strict=True)):
            if wanted > at:
                raise ValueError(f"n: entry {b} has {at} tokens (axis M), fewer than the {wanted} to keep.")
        self._filled = kept

    def reorder(self, indices: Tensor | Sequence[int]) -> None:
        """Entry i becomes what entry ``indices[i]`` was, as beam search wants; entries may repeat or go.

        Copies the cache; views handed out earlier stay as they were.

        Args:
            indices: [B'] integers from 0 to B - 1.

        Raises:
            ValueError: before the first append, or for an index beyond the batch.
        """
        key, value = _appended(self._key), _appended(self._value)
        chosen = given_integers("indices", indices)
        for index in chosen:
            if not 0 <= index < key.shape[0]:
                raise ValueError(
                    f"indices: there is no entry {index} in a batch of B={key.shape[0]} (axis B)."
                )
        self._key, self._value = (_chosen(tensor, chosen, len(self)) for tensor in (key, value))
        self._filled = [self._filled[index] for index in chosen]
        self._shown = list(self._filled)

    def reset(self) -> None:
        """Forgets everything and frees the memory; views handed out earlier stay as they were."""
        self._key = self._value = None
        self._filled, self._shown = [], []

    # --- room ---------------------------------------------------------------------------------------

    def _make_room(self, key: Tensor, value: Tensor, length: int) -> None:
        """Room for ``length`` tokens, with what is there copied into it where it had to be larger."""
        if self._fixed is not None and length > self._fixed:
            raise ValueError(
                f"key: {length} tokens (axis M) are beyond the cache's capacity of {self._fixed}. "
                "Give a larger one, truncate, or leave it out to let the cache grow."
            )
        if self._key is not None and self._value is not None and length <= self._key.shape[2]:
            return
        capacity = self._fixed or max(length, 2 * self.capacity, _FIRST_CAPACITY)
        self._key = _grown(self._key, key, capacity, len(self))
        self._value = _grown(self._value, value, capacity, len(self))
        self._shown = self._filled or [0] * key.shape[0]

    def _check(self, key: Tensor, value: Tensor) -> None:
        for name, tensor, axes in (("key", key, "[B,G,n,D]"), ("value", value, "[B,G,n,E]")):
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}.")
            check_strided(name, tensor)
            if tensor.is_quantized:
                raise TypeError(f"{name}: {tensor.dtype} is not kept. Use .dequantize().")
            if tensor.dim() != 4:
                raise ValueError(f"{name}: expected 4 axes {axes}, got shape {list(tensor.shape)}.")
            if tensor.requires_grad and torch.is_grad_enabled():
                raise ValueError(
                    f"{name}: requires gradients, which a cache cannot carry. Append {name}.detach(), or "
                    "work under torch.no_grad()."
                )
        for axis, letter in enumerate("BGn"):
            if key.shape[axis] != value.shape[axis]:
                raise ValueError(
                    f"value: {value.shape[axis]} entries along axis {letter} ({axis}) differ from the key's "
                    f"{key.shape[axis]}. Keys and values belong in pairs."
                )
        _check_same("key", key, self._key, "D")
        _check_same("value", value, self._value, "E")


def _check_same(name: str, step: Tensor, there: Tensor | None, width: str) -> None:
    """Raises for a step that does not fit what the cache holds."""
    if there is None:
        return
    for axis, letter in ((0, "B"), (1, "G"), (3, width)):
        if step.shape[axis] != there.shape[axis]:
            raise ValueError(
                f"{name}: {step.shape[axis]} entries along axis {letter} ({axis}) differ from the cache's "
                f"{there.shape[axis]}. Call reset() to begin anew."
            )
    if step.dtype != there.dtype:
        raise TypeError(f"{name}: dtype {step.dtype} differs from the cache's {there.dtype}.")
    if step.device != there.device:
        raise ValueError(
            f"{name}: on {step.device}, but the cache is on {there.device}. "
            f"Move it with .to({str(there.device)!r})."
        )


def _appended(tensor: Tensor | None) -> Tensor:
    if tensor is None:
        raise ValueError("cache: nothing was appended yet.")
    return tensor


def _room(like: Tensor, batch: int, capacity: int) -> Tensor:
    """Zeros [batch,G,capacity,D]: padding that a mask hides must not be NaN. Written to in any grad mode."""
    with torch.inference_mode(False):
        return like.new_zeros((batch, like.shape[1], capacity, like.shape[3]), requires_grad=False)


def _grown(old: Tensor | None, step: Tensor, capacity: int, length: int) -> Tensor:
    room = _room(step, step.shape[0], capacity)
    if old is not None and length:
        room.data[:, :, :length] = old[:, :, :length]
    return room


def _chosen(old: Tensor, indices: list[int], length: int) -> Tensor:
    room = _room(old, len(indices), old.shape[2])
    where = torch.tensor(indices, dtype=torch.int64, device=old.device)
    room.data[:, :, :length] = old[:, :, :length].index_select(0, where)
    return room


def _write(room: Tensor, step: Tensor, filled: list[int], counts: list[int], shown: list[int]) -> None:
    """Puts the first ``counts[b]`` rows of entry b at ``filled[b]``.

    Rows that no view shows yet are written past autograd's version counter: nothing that anyone holds
    changes. Overwriting bumps it, so that whoever kept a view can tell.
    """
    with torch.no_grad():
        for first, last in _runs(filled, counts, shown):
            at, count = filled[first], counts[first]
            target = room if at < shown[first] and count else room.data
            target[first:last, :, at : at + count] = step.detach()[first:last, :, :count]


def _runs(*columns: list[int]) -> list[tuple[int, int]]:
    """Runs of entries that agree in every column, so that an even batch is written at once."""
    rows = list(zip(*columns, strict=True))
    starts = [b for b in range(len(rows)) if b == 0 or rows[b] != rows[b - 1]]
    return list(zip(starts, [*starts[1:], len(rows)], strict=True))


def _counts(name: str, given: Any, batch: int, most: int, letter: str) -> list[int]:
    """One count from 0 to ``most`` per batch entry."""
    if given is None:
        return [most] * batch
    counts = given_integers(name, given)
    if len(counts) != batch:
        raise ValueError(f"{name}: {len(counts)} numbers for a batch of B={batch} (axis B).")
    for count in counts:
        if not 0 <= count <= most:
            raise ValueError(f"{name}: {count} does not lie between 0 and {letter}={most}.")
    return counts


def given_integers(name: str, given: Any) -> list[int]:
    """Integers along one axis, as Python has them."""
    tensor = integers_tensor(name, given)
    if tensor.dim() != 1:
        raise ValueError(f"{name}: expected one axis, got shape {list(tensor.shape)}.")
    if not is_eager(tensor):
        raise TypeError(f"{name}: a cache needs numbers that can be looked at; this tensor has none.")
    return [int(number) for number in tensor.tolist()]

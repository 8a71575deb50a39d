"""The keys and values of one layer, kept from step to step while a sequence grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args, overload

import torch
from torch import Tensor

from sightline.biases import Bias
from sightline.call.attention import attention
from sightline.common import several
from sightline.common.check import choice, flag, integer
from sightline.lowering import autocast, lower
from sightline.masks import Mask, as_mask
from sightline.masks import lengths as own_lengths
from sightline.matrix import AttentionMatrix
from sightline.nn.kept import kept_rows, rows_of_heads
from sightline.nn.key_scores import KeyScores, ScoreKind
from sightline.nn.places import NOWHERE, bias_at, mask_at
from sightline.nn.room import entries_of, filled_with, grown, write
from sightline.nn.steps import check_step, counts_of, given_integers

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

    A cache may keep a score for each key, made of the weights that it gets (see :attr:`scores`), and
    :meth:`evict` keeps the best. What is left stays in order, and keeps its position in the text: rotary
    angles stay right, ``start`` goes on counting, and the masks and biases of :meth:`attend` and of the
    layers speak of positions as before. ``len`` and ``lengths`` then count the rows that are left.

    Args:
        capacity: the most tokens M; allocated at the first append. Default: grows.
        scores: "received", "last" or "window"; see :attr:`scores`. Default: none are kept.
        window: how many queries "window" means. Default: 32.

    Raises:
        ValueError: if ``capacity`` or ``window`` is below 1, or for unknown scores; TypeError: for what is no
            integer.

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

    def __init__(
        self, capacity: int | None = None, *, scores: ScoreKind | None = None, window: int = 32
    ) -> None:
        if capacity is not None:
            capacity = integer("capacity", capacity, 1, remedy="None lets the cache grow.")
        self._fixed = capacity
        self._kind: KeyScores | None = None
        self._rooms: dict[str, Tensor] = {}  # [B,G,capacity,...] each: "key", "value", "score", "place"
        self._filled: list[int] = []  # each entry's rows
        self._gone: list[int] = []  # how many were evicted
        self._settled: list[int] = []  # the tokens that each had at its last eviction
        self._shown: list[int] = []  # per entry, rows that some view shows as its own
        self._step: tuple[int, list[int]] = (0, [])  # the last step's n, and how many of them count
        self._group = 1  # query heads of a key/value head
        self.keep_scores(scores, window)

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
        return self._fixed or (self._rooms["key"].shape[2] if self._rooms else 0)

    @property
    def lengths(self) -> Tensor:
        """[B] int64, how many keys each entry has, for :func:`sightline.lengths`; empty before any append."""
        return self._numbers(self._filled)

    @property
    def ragged(self) -> bool:
        """Whether entries have different lengths."""
        return len(set(self._filled)) > 1

    @property
    def start(self) -> int | Tensor:
        """Where the next token stands, for ``align=`` and rotary offsets: M, or [B] where entries differ.

        Evicted tokens count.
        """
        seen = self._seen()
        return self._numbers(seen) if len(set(seen)) > 1 else max(seen, default=0)

    @property
    def evicted(self) -> bool:
        """Whether any key was evicted."""
        return any(self._gone)

    @property
    def positions(self) -> Tensor:
        """[B,G,M] int64: where in the text each key stands that is there; -1 past an entry's own length.

        Raises:
            ValueError: before the first append.
        """
        places = self._places()
        return places.masked_fill(places == NOWHERE, -1)

    @property
    def scores(self) -> Tensor:
        """[B,G,M]: the score of each key, float32 or better, the mean over the query heads that share it.

        ``"received"``: the weights of all queries so far, summed, those of the prompt included (H2O).
        ``"last"``: the weights of the last query alone (TOVA). ``"window"``: the mean of the weights of the
        last ``window`` queries of a prompt, that is of a step of two tokens or more, and infinity for these
        last keys themselves and for what is written afterwards (SnapKV).

        :meth:`attend` and the layers take them in. Past an entry's own length they mean nothing.

        Raises:
            ValueError: before the first append, or in a cache that keeps none.

        Sources: Zhang et al. 2023, "H2O: Heavy-hitter oracle for efficient generative inference of large
        language models"; Oren et al. 2024, "Transformers are multi-state RNNs"; Li et al. 2024, "SnapKV: LLM
        knows what you are looking for before generation".

        Example:
            >>> import torch
            >>> from sightline.nn import KVCache
            >>> cache = KVCache(scores="received")
            >>> query, key, value = torch.randn(3, 1, 2, 4, 8)
            >>> _ = cache.append(key, value)
            >>> _ = cache.attend(query)
            >>> round(float(cache.scores.sum()), 4)  # 2 heads, 4 queries, whose weights sum to 1
            8.0
        """
        if self._kind is None:
            raise ValueError('scores: this cache keeps none. Make it with KVCache(scores="received").')
        self._room("key")
        return self._sums() / self._group

    @property
    def key(self) -> Tensor:
        """[B,G,M,D], all keys so far: a view.

        Raises:
            ValueError: before the first append.
        """
        return self._room("key")[:, :, : len(self)]

    @property
    def value(self) -> Tensor:
        """[B,G,M,E], all values so far: a view.

        Raises:
            ValueError: before the first append.
        """
        return self._room("value")[:, :, : len(self)]

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
            NotImplementedError: inside of :func:`sightline.distributed.context_parallel`.

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
        if several.anybody():
            raise NotImplementedError(
                "KVCache: keys that several processes share are not kept from step to step. Give no cache "
                "inside of context_parallel."
            )
        check_step(key, value, self._rooms)
        steps = counts_of("lengths", lengths, key.shape[0], key.shape[2], "n")
        filled = self._filled or [0] * key.shape[0]
        ends = [at + step for at, step in zip(filled, steps, strict=True)]
        rows = {"key": key, "value": value, **self._beside(key)}
        self._make_room(rows, max(ends, default=0))
        for name, step in rows.items():
            write(self._rooms[name], step, filled, steps, self._shown)
        self._filled, self._step = ends, (key.shape[2], steps)
        self._gone = self._gone or [0] * len(ends)
        self._settled = self._settled or [0] * len(ends)
        self._shown = [max(pair) for pair in zip(self._shown, ends, strict=True)]
        return self.key, self.value

    @overload
    def attend(
        self,
        query: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
        dropout: float = 0.0,
        return_matrix: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def attend(
        self,
        query: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
        dropout: float = 0.0,
        return_matrix: Literal[True],
    ) -> tuple[Tensor, AttentionMatrix]: ...

    def attend(
        self,
        query: Tensor,
        *,
        mask: Mask | Tensor | None = None,
        bias: Bias | Tensor | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
        dropout: float = 0.0,
        return_matrix: bool = False,
    ) -> Tensor | tuple[Tensor, AttentionMatrix]:
        """Attention over all that the cache holds; where it keeps scores, the step's weights join them.

        Padding is hidden. Masks and biases speak of positions in the text, M of them so far, whatever was
        evicted: give them as if nothing had been. After an eviction bands (:func:`sightline.causal`,
        :func:`sightline.window`) stay ranges of keys; other masks, and biases, become a number for each query
        and key that is left.

        Args:
            query: [B,H,n,D]. Where scores are kept: the queries of the step that was appended last.
            mask, bias, scale, softcap, sinks, dropout: as in :func:`sightline.attention`; scores know no
                dropout.
            return_matrix: whether to return the :class:`AttentionMatrix` [B,H,n,M] as well.

        Raises:
            ValueError: before the first append, for queries of another step where scores are kept, and as
                :func:`sightline.attention`.

        Example:
            >>> import sightline, torch
            >>> from sightline.nn import KVCache
            >>> cache = KVCache(scores="last")
            >>> for n in (5, 1):
            ...     query, key, value = torch.randn(3, 1, 2, n, 8)
            ...     _ = cache.append(key, value)
            ...     context = cache.attend(query, mask=sightline.causal())
            >>> context.shape, cache.scores.shape
            (torch.Size([1, 2, 1, 8]), torch.Size([1, 2, 6]))
        """
        key, value = self.key, self.value
        if mask is not None:
            mask = as_mask(mask)
        if self.evicted:
            places, length = self._places(), max(self._seen())
            mask = None if mask is None else mask_at(mask, places, length)
            bias = None if bias is None else bias_at(bias, places, length)
        if self.ragged:
            own = own_lengths(self.lengths)
            mask = own if mask is None else mask & own
        options: dict[str, Any] = {
            "mask": mask, "bias": bias, "scale": scale, "softcap": softcap, "sinks": sinks, "dropout": dropout
        }  # fmt: skip
        attended: Any = attention
        if self._kind is None:
            found: Tensor | tuple[Tensor, AttentionMatrix] = attended(
                query, key, value, **options, return_matrix=return_matrix
            )
            return found
        return_matrix = flag("return_matrix", return_matrix)
        problem = lower(*autocast(query, key, value), **options)
        self._check_step(query)
        self._group = query.shape[1] // key.shape[1] if key.shape[1] else 1
        sums, counts = self._sums(), self._step[1]
        direct = self._kind.in_one_pass(problem, sums, counts)
        if direct is None:
            context, matrix = attended(query, key, value, **options, return_matrix=True)
            self._kind.take(matrix, sums, counts, self._filled)
            return (context, matrix) if return_matrix else context
        context, lse = direct
        return (context, AttentionMatrix.of_problem(problem, lse)) if return_matrix else context

    def keep_scores(self, scores: ScoreKind | None, window: int = 32) -> None:
        """Which scores an empty cache is going to keep; as at its making.

        Raises:
            ValueError: after the first append, for unknown scores or a window below 1.
        """
        if scores is not None:
            choice("scores", scores, get_args(ScoreKind))
        window = integer("window", window, 1)
        if self._rooms:
            raise ValueError("scores: what was appended has none. Call reset() first.")
        self._kind = None if scores is None else KeyScores(scores, window)

    def evict(self, scores: Tensor | None, keep: int, *, recent: int = 0, sinks: int = 0) -> Tensor:
        """Keeps the ``keep`` best keys and values of each entry and key/value head, and frees the others.

        Each head may keep others. What is left keeps its order, its position in the text and its score. Of
        equal scores the later key stays; an entry with no more than ``keep`` keys stays as it is. Copies what
        is left; views handed out earlier stay as they were.

        Args:
            scores: [B,G,M], or what broadcasts to it; the best are the largest. ``None``: the cache's own.
            keep: how many keys stay.
            recent: so many of the last keys stay whatever their scores. Default: 0.
            sinks: so many of the text's first keys stay if they are there still. Default: 0.

        Returns:
            [B,G,K] int64, which of the M rows stay, ascending; -1 past an entry's own.

        Raises:
            ValueError: before the first append, for scores of another shape or with NaN, for ``recent`` and
                ``sinks`` that together are more than ``keep``. TypeError: for what is no tensor or integer.

        Sources: as of :attr:`scores`; Xiao et al. 2024, "Efficient streaming language models with attention
        sinks" (sinks).

        Example:
            >>> import torch
            >>> from sightline.nn import KVCache
            >>> cache = KVCache()
            >>> rows = torch.arange(5.0).reshape(1, 1, 5, 1)
            >>> _ = cache.append(rows, rows)
            >>> cache.evict(torch.tensor([9.0, 1.0, 7.0, 8.0, 0.0]), 3, recent=1)
            tensor([[[0, 3, 4]]])
            >>> cache.key.flatten().tolist(), cache.positions.tolist(), len(cache), cache.start
            ([0.0, 3.0, 4.0], [[[0, 3, 4]]], 3, 5)
        """
        places = self._places()
        if scores is None:
            scores = self.scores
        kept = kept_rows(scores, places, self._filled, keep, recent, sinks)
        if len(self) <= keep:
            return kept
        rooms = self._rooms
        if not self.evicted:  # until now a row's number was its place
            rooms = rooms | {"place": places[..., None]}
        counts = [min(keep, at) for at in self._filled]
        capacity = keep + max(keep // 4, _FIRST_CAPACITY)
        self._rooms = {
            name: filled_with(rows_of_heads(room, kept), counts, capacity) for name, room in rooms.items()
        }
        self._settled = self._seen()
        self._gone = [seen - count for seen, count in zip(self._settled, counts, strict=True)]
        self._filled, self._shown = counts, list(counts)
        return kept

    def truncate(self, n: int | Tensor | Sequence[int]) -> None:
        """Keeps the first ``n`` tokens of each entry, as speculative decoding wants when a guess was wrong.

        Nothing is copied. Tokens that are appended next overwrite the dropped ones, in views handed out
        earlier too.

        Scores stay as they are: what dropped tokens looked at is not taken back.

        Args:
            n: a number for all entries, at most M, or [B] numbers, each at most its entry's length. Entries
                that are shorter than a common number stay as they are. Tokens count whether they were evicted
                or not, and those that were there at the last eviction can no longer be dropped.

        Raises:
            ValueError: for a negative number or one beyond what is there, or from before an eviction.
        """
        seen = self._seen()
        longest = max(seen, default=0)
        if not isinstance(n, Sequence) and not getattr(n, "ndim", 0):  # no list, tensor or array of them
            n = integer("n", n)
            if not 0 <= n <= longest:
                raise ValueError(f"n: {n} does not lie between 0 and the cache's length M={longest}.")
            kept = [min(n, at) for at in seen]
        else:
            kept = counts_of("n", n, len(seen), longest, "M")
        for b, (wanted, at, settled) in enumerate(zip(kept, seen, self._settled, strict=True)):
            if wanted > at:
                raise ValueError(f"n: entry {b} has {at} tokens (axis M), fewer than the {wanted} to keep.")
            if wanted < settled and self._gone[b]:
                raise ValueError(
                    f"n: {wanted} tokens of entry {b}, but of its first {settled} (axis M) each head has "
                    f"evicted others. Keep {settled} or more."
                )
        self._filled = [wanted - gone for wanted, gone in zip(kept, self._gone, strict=True)]

    def reorder(self, indices: Tensor | Sequence[int]) -> None:
        """Entry i becomes what entry ``indices[i]`` was, as beam search wants; entries may repeat or go.

        Copies the cache; views handed out earlier stay as they were.

        Args:
            indices: [B'] integers from 0 to B - 1.

        Raises:
            ValueError: before the first append, or for an index beyond the batch.
        """
        key = self._room("key")
        chosen = given_integers("indices", indices)
        for index in chosen:
            if not 0 <= index < key.shape[0]:
                raise ValueError(
                    f"indices: there is no entry {index} in a batch of B={key.shape[0]} (axis B)."
                )
        self._rooms = {name: entries_of(room, chosen, len(self)) for name, room in self._rooms.items()}
        self._filled, self._gone, self._settled = (
            [each[index] for index in chosen] for each in (self._filled, self._gone, self._settled)
        )
        self._step = (self._step[0], [self._step[1][index] for index in chosen])
        self._shown = list(self._filled)

    def reset(self) -> None:
        """Forgets everything and frees the memory; views handed out earlier stay as they were."""
        self._rooms, self._step, self._group = {}, (0, []), 1
        self._filled, self._gone, self._settled, self._shown = [], [], [], []

    # --- room ---------------------------------------------------------------------------------------

    def _room(self, name: str) -> Tensor:
        if not self._rooms:
            raise ValueError("cache: nothing was appended yet.")
        return self._rooms[name]

    def _numbers(self, of_entries: list[int]) -> Tensor:
        device = self._rooms["key"].device if self._rooms else None
        return torch.tensor(of_entries, dtype=torch.int64, device=device)

    def _seen(self) -> list[int]:
        """The tokens that each entry was given."""
        return [at + gone for at, gone in zip(self._filled, self._gone, strict=True)]

    def _places(self) -> Tensor:
        """[B,G,M]: where each key stands; ``NOWHERE`` past an entry's own length."""
        key = self.key
        b, g, m, _ = key.shape
        rows = torch.arange(m, device=key.device)
        places = self._rooms["place"][:, :, :m, 0] if "place" in self._rooms else rows.expand(b, g, m)
        if self.ragged:
            places = places.masked_fill(rows >= self.lengths[:, None, None], NOWHERE)
        return places.contiguous()

    def _sums(self) -> Tensor:
        """[B,G,M]: the scores, summed over the query heads of each key/value head; written to."""
        return self._rooms["score"][:, :, : len(self), 0]

    def _beside(self, key: Tensor) -> dict[str, Tensor]:
        """What else is kept of the rows that are appended: [B,G,n,1] each."""
        b, g, n, _ = key.shape
        rows = {}
        if self._kind is not None:
            dtype = torch.float64 if key.dtype == torch.float64 else torch.float32
            rows["score"] = torch.full((b, g, n, 1), self._kind.first, dtype=dtype, device=key.device)
        if "place" in self._rooms:
            places = self._numbers(self._seen())[:, None] + torch.arange(n, device=key.device)
            rows["place"] = places[:, None, :, None].expand(b, g, n, 1)
        return rows

    def _check_step(self, query: Tensor) -> None:
        """Raises for queries that are not those of the step."""
        if query.shape[2] != self._step[0]:
            raise ValueError(
                f"query: {query.shape[2]} queries (axis N), but the step that was appended last has "
                f"n={self._step[0]}. Where scores are kept, attend() takes the queries of that step."
            )

    def _make_room(self, rows: dict[str, Tensor], length: int) -> None:
        """Room for ``length`` tokens, with what is there copied into it where it had to be larger."""
        if self._fixed is not None and length > self._fixed:
            raise ValueError(
                f"key: {length} tokens (axis M) are beyond the cache's capacity of {self._fixed}. "
                "Give a larger one, truncate, or leave it out to let the cache grow."
            )
        there = self._rooms["key"].shape[2] if self._rooms else 0
        if self._rooms and length <= there:
            return
        capacity = self._fixed or max(length, 2 * there, _FIRST_CAPACITY)
        self._rooms = {
            name: grown(self._rooms.get(name), step, capacity, len(self)) for name, step in rows.items()
        }
        self._shown = self._filled or [0] * rows["key"].shape[0]

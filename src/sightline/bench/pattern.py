"""What may be looked at in a benchmark case; each peer translates it into its own terms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pattern:
    """Everything may be looked at; the other patterns restrict this. Aligned at the top left."""

    def sees(self, batch: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """Whether a query may look at a key; the three index tensors broadcast."""
        return (key >= 0) & (query >= 0) & (batch >= 0)

    def pairs(self, batch: int, queries: int, keys: int) -> int:
        """How many pairs of query and key a head sees, in all batch entries together."""
        return batch * queries * keys

    def __str__(self) -> str:
        return "full"

    def dense(self, batch: int, queries: int, keys: int, rows: Tensor | None = None) -> Tensor:
        """[B or 1, 1, N, M] bool, or only some of its rows: True = may look."""
        rows = torch.arange(queries) if rows is None else rows
        entries = torch.arange(batch if self.by_batch else 1)
        return self.sees(entries[:, None, None, None], rows[:, None], torch.arange(keys)).expand(
            len(entries), 1, len(rows), keys
        )

    @property
    def by_batch(self) -> bool:
        """Whether batch entries see different keys."""
        return False


@dataclass(frozen=True)
class CausalPattern(Pattern):
    """Each query sees itself and the keys before it."""

    def sees(self, batch: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return key <= query

    def pairs(self, batch: int, queries: int, keys: int) -> int:
        return batch * queries * (queries + 1) // 2

    def __str__(self) -> str:
        return "causal"


@dataclass(frozen=True)
class WindowPattern(Pattern):
    """Each query sees itself and the ``left`` keys before it."""

    left: int

    def sees(self, batch: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query - key <= self.left)

    def pairs(self, batch: int, queries: int, keys: int) -> int:
        ramp = min(self.left, queries)
        return batch * (ramp * (ramp + 1) // 2 + (queries - ramp) * (self.left + 1))

    def __str__(self) -> str:
        return f"window {self.left}"


@dataclass(frozen=True)
class LengthsPattern(Pattern):
    """Batch entry b has ``kept[b]`` keys; what comes after is padding."""

    kept: tuple[int, ...]

    def sees(self, batch: Tensor, query: Tensor, key: Tensor) -> Tensor:
        # Without indexing by a list, which FlexAttention cannot compile.
        return (key < torch.tensor(self.kept)[batch]) & (query >= 0)

    def pairs(self, batch: int, queries: int, keys: int) -> int:
        return queries * sum(self.kept)

    def __str__(self) -> str:
        return "padded"

    @property
    def by_batch(self) -> bool:
        return True


@dataclass(frozen=True)
class DocumentsPattern(Pattern):
    """A packed sequence: documents of ``length`` tokens, each of which sees itself only."""

    length: int

    def sees(self, batch: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query // self.length == key // self.length

    def pairs(self, batch: int, queries: int, keys: int) -> int:
        whole, rest = divmod(queries, self.length)
        return batch * (whole * self.length**2 + rest**2)

    def __str__(self) -> str:
        return f"documents of {self.length}"


FULL = Pattern()
CAUSAL = CausalPattern()

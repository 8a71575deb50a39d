"""A problem of the benchmark: its shapes, and the inputs that all contenders get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.bench.pattern import FULL, Pattern

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Case:
    """What is computed.

    Attributes:
        queries, keys: N and M; 0 keys for as many as queries.
        width: D, of queries, keys and values.
        dtype: a name in DTYPES.
        batch, heads, kv_heads: B, H and G; 0 for as many key/value heads as query heads.
        pattern: who may look at whom.
        form: how the pattern is given: "best", each peer's most compact form; "key mask", bool [B,1,1,M];
            "dense", bool [B,1,N,M].
        bias: a dense float bias [1,H,N,M], "" for none, "fixed", or "learned" (with a gradient).
        direction: "forward"; or "backward" alone, after a forward pass that is not timed.
        copies: how many sets of inputs take turns, so that they come from memory and not from a cache.
        stretch: the factor of the queries, and so of the logits.
    """

    queries: int
    width: int = 64
    dtype: str = "float32"
    batch: int = 1
    heads: int = 8
    kv_heads: int = 0
    keys: int = 0
    pattern: Pattern = FULL
    form: str = "best"
    bias: str = ""
    direction: str = "forward"
    copies: int = 1
    stretch: float = 1.0

    @property
    def groups(self) -> int:
        """G."""
        return self.kv_heads or self.heads

    @property
    def length(self) -> int:
        """M."""
        return self.keys or self.queries

    @property
    def torch_dtype(self) -> torch.dtype:
        return DTYPES[self.dtype]

    @property
    def flops(self) -> float:
        """Useful multiplications and additions: 2 products forward, 5 backward, over visible pairs only."""
        products = 2 if self.direction == "forward" else 5
        pairs = self.pattern.pairs(self.batch, self.queries, self.length)
        return 2.0 * products * self.heads * self.width * pairs

    @property
    def cache_bytes(self) -> int:
        """Bytes of all keys and values."""
        return 2 * self.batch * self.groups * self.length * self.width * self.torch_dtype.itemsize

    def __str__(self) -> str:
        shape = f"({self.batch},{self.heads},{self.queries},{self.width})"
        if self.groups != self.heads or self.length != self.queries:
            shape = (
                f"({self.batch},{self.heads}/{self.groups},{self.queries},{self.width}) × {self.length} keys"
            )
        words = [shape, str(self.pattern)]
        if self.form != "best":
            words.append(f"as {self.form}")
        if self.bias:
            words.append(f"{self.bias} bias")
        return " ".join(words)


class Inputs(NamedTuple):
    """The tensors of a case, contiguous, in its dtype."""

    query: Tensor  # [B,H,N,D]
    key: Tensor  # [B,G,M,D]
    value: Tensor  # [B,G,M,D]
    grad: Tensor  # [B,H,N,D], what the backward pass starts from
    bias: Tensor | None  # [1,H,N,M]


_drawn: dict[tuple[Case, int], Inputs] = {}


def inputs(case: Case, copy: int = 0) -> Inputs:
    """Signed normal numbers, the same in every process.

    All contenders of a process read the same memory: how fast that is depends on where it lies, by a tenth
    and more. Kept until another case is asked for, or :func:`forget_inputs`.
    """
    if any(drawn != case for drawn, _ in _drawn):
        forget_inputs()
    if (case, copy) not in _drawn:
        _drawn[case, copy] = _draw(case, copy)
    query, key, value, grad, bias = _drawn[case, copy]
    bias = None if bias is None else bias.detach()
    return Inputs(query.detach(), key.detach(), value.detach(), grad.detach(), bias)


def forget_inputs() -> None:
    """Frees what was drawn, as soon as nobody uses it."""
    _drawn.clear()


def _draw(case: Case, copy: int) -> Inputs:
    generator = torch.Generator().manual_seed(copy)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=generator) * scale).to(case.torch_dtype)

    b, h, g, n, m, d = case.batch, case.heads, case.groups, case.queries, case.length, case.width
    query, key, value = draw(b, h, n, d, scale=case.stretch), draw(b, g, m, d), draw(b, g, m, d)
    grad = draw(b, h, n, d) if case.direction == "backward" else query
    bias = draw(1, h, n, m) if case.bias else None
    return Inputs(query, key, value, grad, bias)

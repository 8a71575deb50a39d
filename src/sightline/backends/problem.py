"""What a backend is given: one attention problem, checked and lowered to plain tensors.

Each field is described once, where it stands: its axes, which of them may broadcast, whether gradients reach
it. The operator, the selection of batches, heads, queries and keys, traces and the native core's C structure
follow from that description.

Letters: B batch, H query heads, G key/value heads (G divides H), N queries, M keys, D query/key width,
E value width, R key ranges per query, T entries of a relative table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from operator import attrgetter, itemgetter
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor


class Axes(NamedTuple):
    """What is said of a tensor field.

    Attributes:
        letters: one for each axis, "2" for a pair; "" for a single number.
        broadcasts: the axes that may have size 1 instead.
        gradient: whether gradients reach it.
        required: whether attention needs it.
    """

    letters: str
    broadcasts: str = ""
    gradient: bool = False
    required: bool = False


@dataclass(slots=True)  # never changed, but frozen dataclasses take three times as long to make
class Problem:
    """One attention problem. Broadcast axes have size 1; a term that is ``None`` is left out.

    Attributes:
        query: [B,H,N,D].
        key: [B,G,M,D].
        value: [B,G,M,E]; ``None`` where only the weights are asked for.
        scale: what q·k is multiplied with.
        softcap: ``softcap * tanh(scaled / softcap)``; ``None`` for none; a tensor where derivatives reach it.
        ranges: [1|B, 1|H, 1|N, R, 2] int32, half-open key ranges per query, sorted, disjoint, within
            [0, M]; empty ones have lo >= hi.
        visible: [1|B, 1|H, 1|N, 1|M] bool, False hides; holds besides ``ranges``, not instead of them.
        bias: [1|B, 1|H, 1|N, 1|M] floating, added to the scores; -inf hides.
        slopes: [1|B, H] ALiBi slopes: ``-slope * |i + offset - j|``.
        table: [1|H, T] relative bias, T = 2R + 1: ``table[h, clip(j - i - offset, -R, R) + R]``.
        offset: [1|B] int64, the position of query 0, for ``slopes`` and ``table``.
        sinks: [H] logits that join the denominator only.
        dropout: the share of weights that is zeroed, the rest scaled by ``1 / (1 - dropout)``.
        seed: [] int64, what the dropout pattern is drawn from; of a part of a larger matrix [4]: the
            seed, then the first query, the number of queries, and the first key in the larger one.
    """

    query: Annotated[Tensor, Axes("BHND", gradient=True, required=True)]
    key: Annotated[Tensor, Axes("BGMD", gradient=True, required=True)]
    value: Annotated[Tensor | None, Axes("BGME", gradient=True, required=True)]
    scale: float
    softcap: float | Tensor | None = None
    ranges: Annotated[Tensor | None, Axes("BHNR2", "BHN")] = None
    visible: Annotated[Tensor | None, Axes("BHNM", "BHNM")] = None
    bias: Annotated[Tensor | None, Axes("BHNM", "BHNM", gradient=True)] = None
    slopes: Annotated[Tensor | None, Axes("BH", "B", gradient=True)] = None
    table: Annotated[Tensor | None, Axes("HT", "H", gradient=True)] = None
    offset: Annotated[Tensor | None, Axes("B", "B")] = None
    sinks: Annotated[Tensor | None, Axes("H", gradient=True)] = None
    dropout: float = 0.0
    seed: Annotated[Tensor | None, Axes("")] = None

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, N, M): the shape of the attention matrix."""
        b, h, n, _ = self.query.shape
        return b, h, n, self.key.shape[2]

    @property
    def group(self) -> int:
        """Query heads that share one key/value head, H / G."""
        return self.query.shape[1] // self.key.shape[1] if self.key.shape[1] else 1

    @property
    def hides(self) -> bool:
        """Whether anything may be hidden from a query."""
        return self.ranges is not None or self.visible is not None or self.bias is not None


class Bare(NamedTuple):
    """A problem of nothing else than key ranges, which may be left out; see :class:`Problem`."""

    query: Tensor
    key: Tensor
    value: Tensor
    ranges: Tensor | None
    scale: float

    def problem(self) -> Problem:
        """The same as any other problem."""
        return Problem(self.query, self.key, self.value, scale=self.scale, ranges=self.ranges)


class Field(NamedTuple):
    """A tensor field: its name, and what is said of it."""

    name: str
    axes: str
    broadcasts: str
    gradient: bool
    required: bool


def _described() -> Iterator[Field]:
    # This file does not postpone its annotations, so they are objects, not strings, and quickly read.
    for name, hint in Problem.__annotations__.items():
        for about in getattr(hint, "__metadata__", ()):
            yield Field(name, *about)


#: The tensors of a problem, in order.
FIELDS = tuple(_described())
#: Its numbers.
NUMBERS = tuple(one.name for one in fields(Problem) if one.name not in {field.name for field in FIELDS})
#: Names of the fields that gradients reach.
GRADIENTS = tuple(field.name for field in FIELDS if field.gradient)

_tensors = attrgetter(*(field.name for field in FIELDS))


def tensors_in_order(problem: Problem) -> tuple[Tensor | None, ...]:
    """All tensors of a problem, those that are left out as ``None``, in the order of ``FIELDS``."""
    if torch.compiler.is_compiling():  # torch.compile does not know attrgetter, which is quick
        return tuple([getattr(problem, field.name) for field in FIELDS])
    return _tensors(problem)


def numbers_in_order(problem: Problem) -> tuple[float | None, ...]:
    """Its numbers, in the order of ``NUMBERS``."""
    return tuple([getattr(problem, name) for name in NUMBERS])


# Tensors and then numbers, in the order of a Problem's fields.
_by_field = itemgetter(
    *(([field.name for field in FIELDS] + list(NUMBERS)).index(one.name) for one in fields(Problem))
)


def problem_of(tensors_and_numbers: tuple[Any, ...]) -> Problem:
    """The problem that its tensors and then its numbers make, in order."""
    return Problem(*_by_field(tensors_and_numbers))


def tensors(problem: Problem) -> dict[str, Tensor]:
    """The tensor fields that are there, by name."""
    pairs = zip(FIELDS, tensors_in_order(problem), strict=True)
    return {field.name: tensor for field, tensor in pairs if tensor is not None}


def with_tensors(problem: Problem, changed: Mapping[str, Tensor], **others: Any) -> Problem:
    """The problem with some of its tensor fields replaced, and others."""
    fields_of_all: dict[str, Any] = {**changed, **others}
    return replace(problem, **fields_of_all)


def compute_dtype(problem: Problem) -> torch.dtype:
    """What sums are kept in: float64 for float64, float32 for everything else."""
    return torch.float64 if problem.query.dtype == torch.float64 else torch.float32


def lse_dtype(query: Tensor) -> torch.dtype:
    """What an lse comes in: float64, where the device has it.

    Every weight of a row is made with its lse. The float32 next to an lse of 200 is up to 8e-6 away, and so
    would be all of them.
    """
    return torch.float32 if query.device.type == "mps" else torch.float64


def empty_context(query: Tensor, value_width: int, dtype: torch.dtype | None = None) -> Tensor:
    """Room for the context [B,H,N,E], laid out like the query.

    Heads that were split off the last axis lie interleaved, [B,N,H,D] in memory; then so does the context,
    and concatenating the heads again copies nothing.
    """
    b, h, n, _ = query.shape
    if query.stride(1) < query.stride(2):
        return query.new_empty((b, n, h, value_width), dtype=dtype).transpose(1, 2)
    return query.new_empty((b, h, n, value_width), dtype=dtype)


def empty_gradient(name: str, like: Tensor, dtype: torch.dtype) -> Tensor:
    """Room for the gradient of a field: that of query, key or value has its heads where the tensor has."""
    if name in ("query", "key", "value"):
        return empty_context(like, like.shape[3], dtype)
    return torch.empty(like.shape, dtype=dtype, device=like.device)

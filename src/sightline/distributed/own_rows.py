"""Masks and biases of a whole sequence, for the queries that one process holds.

They are lowered for the whole sequence, which is linear in it, and the process keeps its own rows. A dense
tensor may also have the process's own rows alone: those of all would be N x M.

Letters: B batch, H heads, N queries, M keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sightline.biases import Bias, DenseBias, LoweredBias, as_bias
from sightline.distributed.agreement import of_tensor, of_text
from sightline.distributed.layout import Layout
from sightline.masks import Both, Either, Lowered, Mask, as_mask
from sightline.masks.mask import Dense

_Shape = tuple[int, int, int, int]

#: How many checksums of dense masks and biases are compared.
DENSE = 4


@dataclass
class Held:
    """What of a sequence's queries a process holds, and a checksum of what is said of all.

    Attributes:
        layout: of the queries.
        rank: the process.
        sums: a checksum of each mask or bias, in the order in which they were lowered.
        dense: of each dense one a checksum, -1 where its rows are the process's own.
    """

    layout: Layout
    rank: int
    sums: list[int] = field(default_factory=list)
    dense: list[int] = field(default_factory=list)

    def whole(self, shape: _Shape) -> _Shape:
        """The shape of the whole matrix."""
        return (*shape[:2], self.layout.length, shape[3])

    def own(self, tensor: Tensor | None, axis: int = 2) -> Tensor | None:
        """This process's rows of a tensor for all of them; one that broadcasts stays."""
        if tensor is None or (tensor.shape[axis] == 1 and self.layout.length != 1):
            return tensor
        return self.layout.own(tensor, axis, self.rank)

    def note(self, what: str, *tensors: Tensor | None) -> None:
        """Adds to the checksums."""
        self.sums.append(of_text(repr((what, [of_tensor(one) for one in tensors]))))

    def checksum(self) -> int:
        """That of all."""
        return of_text(repr(self.sums))

    def own_of_dense(self, tensor: Tensor, what: str) -> Tensor:
        """This process's rows of a dense tensor, which has those of all or is the process's own."""
        self.note(what)
        rows, own = tensor.shape[-2] if tensor.dim() > 1 else 1, self.layout.count(self.rank)
        self.dense.append(-1 if rows == own or rows not in (1, self.layout.length) else of_tensor(tensor))
        if rows in (1, own) or rows != self.layout.length:
            return tensor
        return self.layout.own(tensor, -2, self.rank)

    def checksums_of_dense(self) -> list[int]:
        """``DENSE`` numbers, each of one term or of several: -1 where there is none, or one is not of all."""
        found = []
        for some in (self.dense[at::DENSE] for at in range(DENSE)):
            found.append(of_text(repr(some)) if some and -1 not in some else -1)
        return found


def mask_of_rows(mask: Mask | Tensor, held: Held) -> Mask:
    """A mask of the whole sequence for the rows of a process."""
    mask = as_mask(mask)
    if isinstance(mask, (Both, Either)):
        held.note(type(mask).__name__)
        return type(mask)(mask_of_rows(mask.left, held), mask_of_rows(mask.right, held))
    if isinstance(mask, Dense):
        return Dense(held.own_of_dense(mask.tensor, "Dense"))
    return _MaskOfRows(mask, held)


def bias_of_rows(bias: Bias | Tensor, held: Held) -> Bias:
    """A bias of the whole sequence for the rows of a process."""
    bias = as_bias(bias)
    if isinstance(bias, DenseBias):
        return DenseBias(held.own_of_dense(bias.tensor, "DenseBias"))
    return _BiasOfRows(bias, held)


@dataclass(eq=False)
class _MaskOfRows(Mask):
    """Some rows of a mask."""

    mask: Mask
    held: Held

    def visible(self, shape: _Shape, device: torch.device) -> Tensor:
        seen = self.held.own(self.mask.visible(self.held.whole(shape), device))
        assert seen is not None
        return seen

    def lower(self, shape: _Shape, device: torch.device) -> Lowered:
        lowered = self.mask.lower(self.held.whole(shape), device)
        self.held.note(type(self.mask).__name__, *lowered)
        return Lowered(self.held.own(lowered.ranges), self.held.own(lowered.visible))


@dataclass(eq=False)
class _BiasOfRows(Bias):
    """Some rows of a bias; its offset stays that of the whole sequence's first query."""

    bias: Bias
    held: Held

    def dense(self, shape: _Shape, device: torch.device) -> Tensor:
        term = self.held.own(self.bias.dense(self.held.whole(shape), device))
        assert term is not None
        return term

    def lower(self, shape: _Shape, device: torch.device) -> LoweredBias:
        lowered = self.bias.lower(self.held.whole(shape), device)
        self.held.note(type(self.bias).__name__, *lowered)
        return lowered._replace(bias=self.held.own(lowered.bias))

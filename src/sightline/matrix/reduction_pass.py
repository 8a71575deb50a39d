"""One pass over the blocks of a matrix for several reductions, in plain PyTorch or by compiled code."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.backends import MatrixBlock
from sightline.backends.block import numbers
from sightline.backends.contract import Over
from sightline.backends.problem import compute_dtype
from sightline.backends.select import part
from sightline.matrix import block_reductions, compiled
from sightline.matrix.blocks import Blocks
from sightline.matrix.followed.reduction import Function, Operation, applied, neutral
from sightline.matrix.indexing import ALL


class Pass:
    """Reductions of a matrix by several functions.

    Args:
        matrix: which no derivative reaches.
        functions: of weights, scores, positions and extras.
        over: what is reduced first.
        op: how.
        extra: [1|B, 1|H, 1|N, 1|M] each.
    """

    def __init__(
        self,
        matrix: Blocks,
        functions: Sequence[Function],
        over: Over,
        op: Operation,
        extra: Sequence[Tensor],
    ) -> None:
        b, h, n, m = matrix.sizes
        self.matrix, self.functions, self.over, self.op, self.extra = matrix, functions, over, op, extra
        shape = (b, h, n if over == "keys" else m)
        self.dtype = compute_dtype(matrix.problem)
        # Sums over many queries: float32 would lose what comes late.
        wide = torch.float64 if op == "sum" and matrix.device.type != "mps" else self.dtype
        self.values = [torch.full(shape, neutral(op), dtype=wide, device=matrix.device) for _ in functions]
        self.winners = [torch.full(shape, -1, device=matrix.device) for _ in functions]

    def run(self) -> list[Tensor]:
        """The reductions, float32 or better, and which pairs are largest or smallest in ``winners``."""
        for block in self.matrix.blocks():
            self._plain(block)
        return self._done()

    def run_compiled(self) -> list[Tensor]:
        """The reductions alone: by compiled code, or as they were written from where that fails."""
        use = True
        for block in self.matrix._blocks_of(ALL, ALL, compiled.BLOCK_ENTRIES):
            use = use and self._compiled(block)
            if not use:
                self._plain(block)
        return self._done()

    def _done(self) -> list[Tensor]:
        return [one.to(self.dtype) for one in self.values]

    def _compiled(self, block: MatrixBlock) -> bool:
        """Whether compiled code took the block."""
        given = block_reductions.given(block, [_cut(one, block) for one in self.extra])
        try:
            found = compiled.computed(self.functions, given, self.over, self.op)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            self._pairs(block)  # raises where the fault is the function's own, not the compiler's
            compiled.drop(self.functions, error)
            return False
        for kept, one in zip(self.values, found, strict=True):
            _refuse_gradients(one)
            where = self._where(block)
            if self.op == "sum":
                kept[where] += one
            else:
                kept[where] = (torch.maximum if self.op == "max" else torch.minimum)(kept[where], one)
        return True

    def _plain(self, block: MatrixBlock) -> None:
        hidden = block.masked == -math.inf
        for at, pairs in enumerate(self._pairs(block)):
            _refuse_gradients(pairs)
            self._take(at, block, pairs.masked_fill(hidden, neutral(self.op)))

    def _pairs(self, block: MatrixBlock) -> list[Tensor]:
        """What the functions give for a block, [b,H,n,m] each."""
        i, j = numbers(block.problem, block.place)
        given = (block.weights, block.masked, i, j, *(_cut(one, block) for one in self.extra))
        return [applied(function, given, block.masked.shape, self.dtype) for function in self.functions]

    def _where(self, block: MatrixBlock) -> tuple[slice, slice, slice]:
        return block.batch, slice(None), block.rows if self.over == "keys" else block.cols

    def _take(self, at: int, block: MatrixBlock, pairs: Tensor) -> None:
        of_keys = self.over == "keys"
        axis = -1 if of_keys else -2
        where = self._where(block)
        kept = self.values[at]
        if self.op == "sum":
            kept[where] += pairs.sum(axis, dtype=kept.dtype if not of_keys else None)
            return
        best = pairs.max(axis) if self.op == "max" else pairs.min(axis)
        first = block.cols.start if of_keys else block.rows.start
        better = best.values > kept[where] if self.op == "max" else best.values < kept[where]
        better = better | best.values.isnan()
        self.winners[at][where] = torch.where(better, best.indices + first, self.winners[at][where])
        kept[where] = torch.where(better, best.values, kept[where])


def _refuse_gradients(found: Tensor) -> None:
    if found.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "reduce f: uses a tensor that wants gradients, and they would not reach it. Hand it over by "
            "extra=(tensor,)."
        )


def _cut(tensor: Tensor, block: MatrixBlock) -> Tensor:
    cut = part(part(part(tensor, 0, block.batch), 2, block.rows), 3, block.cols)
    return cut.to(block.masked.dtype) if cut.is_floating_point() else cut

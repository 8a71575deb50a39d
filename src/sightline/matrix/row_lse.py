"""The lse of a matrix's rows, computed when first asked for and then kept; parts of the matrix share it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sightline.backends import Problem, Work, choose
from sightline.backends.problem import lse_dtype


def cut(tensor: Tensor, batch: slice | list[int], heads: slice | list[int]) -> Tensor:
    """Some batch entries and heads of [B,H,...]; of two slices a view."""
    both = isinstance(batch, slice) or isinstance(heads, slice)
    return tensor[batch, heads] if both else tensor[batch][:, heads]


class RowLse(NamedTuple):
    """As much of an lse as is known.

    Two threads may compute the same rows; they write the same numbers.

    Attributes:
        values: [B,H,N]; anything where not known.
        known: [B,H,N] bool.
    """

    values: Tensor
    known: Tensor

    @classmethod
    def of(cls, problem: Problem) -> RowLse:
        """Nothing known yet. Pages that nobody asks for are never touched."""
        shape, device = problem.query.shape[:3], problem.query.device
        with torch.inference_mode(False):  # else it could not be written to outside of that mode
            values = torch.empty(shape, dtype=lse_dtype(problem.query), device=device)
            return cls(values, torch.zeros(shape, dtype=torch.bool, device=device))

    def select(self, batch: slice | list[int], heads: slice | list[int]) -> RowLse:
        """That of some batch entries and heads: of slices views of the same memory."""
        return RowLse(cut(self.values, batch, heads), cut(self.known, batch, heads))

    def missing(self, rows: slice) -> int:
        """How many of the rows, over all batch entries and heads, are not known."""
        known = self.known[:, :, rows]
        return known.numel() - int(known.sum())

    def fill(self, problem: Problem, rows: slice) -> None:
        """Makes the lse of some rows known."""
        if self.missing(rows) == 0:
            return
        self.values[:, :, rows] = choose(problem, Work("lse", rows)).lse(problem, rows)
        self.known[:, :, rows] = True

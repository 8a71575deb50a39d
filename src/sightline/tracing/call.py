"""One attention call of a traced model."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.backends import Problem
from sightline.matrix import AttentionMatrix
from sightline.tracing.stitch import Stitched


class AttentionCall:
    """One attention call: whose it was, its matrix, and whether the matrix was found to be the model's.

    Attributes:
        index: its place in the trace, in the order in which the calls ran.
        name: the qualified name of the module that it ran in; "" outside of the model.
        kind: "self" or "cross".
        how: what was recognised, for instance "scaled_dot_product_attention".
        matrix: the attention matrix [B,H,N,M], lazy and detached; ``None`` where nothing could be made of it.
        verified: whether a sample of rows of weights · value was found to be the model's own context.
        reason: why not, if not; else ``None``.
        windows: into how many windows the model cut each input: the matrix then has one batch entry for each
            window, and positions are places in it; 1 where it sees the input as a whole.
        rows: "positions", or "channels" where channels look at each other.
        gradient: [B,H,N,E], the gradient of the loss for the context, after a backward pass through a trace
            with ``gradients=True``; else ``None``.
    """

    def __init__(
        self,
        index: int,
        name: str,
        kind: str,
        how: str,
        matrix: AttentionMatrix | None = None,
        reason: str | None = None,
    ) -> None:
        self.index, self.name, self.kind, self.how = index, name, kind, how
        self._matrix = matrix
        self._steps: Stitched | None = None
        self.reason = reason
        self.windows, self.rows = 1, "positions"
        self.gradient: Tensor | None = None

    @property
    def matrix(self) -> AttentionMatrix:
        """The attention matrix [B,H,N,M], lazy and detached.

        Raises:
            LookupError: if nothing could be made of the call; ``reason`` says why.
        """
        if self._matrix is None and self._steps is not None:
            self._matrix = AttentionMatrix.of_problem(*self._steps.whole())
        if self._matrix is None:
            raise LookupError(f"{self.name or 'this call'}: has no attention matrix: {self.reason}.")
        self._matrix.reason = self.reason
        return self._matrix

    @property
    def verified(self) -> bool:
        """Whether the matrix was found to be what the model computed with."""
        return self.reason is None

    @property
    def shape(self) -> torch.Size | None:
        """[B,H,N,M]; ``None`` without a matrix."""
        known = self._matrix is not None or self._steps is not None
        return self.matrix.shape if known else None

    def set_problem(self, problem: Problem, lse: Tensor | None) -> None:
        """Gives the call its matrix."""
        self._matrix, self._steps = AttentionMatrix.of_problem(problem, lse), None

    def set_matrix(self, matrix: AttentionMatrix) -> None:
        """Gives the call a matrix that is there."""
        self._matrix, self._steps = matrix, None

    def set_steps(self, steps: Stitched) -> None:
        """Gives the call a matrix of several steps, put together when it is asked for."""
        self._matrix, self._steps = None, steps

    def __repr__(self) -> str:
        shape = "no matrix" if self.shape is None else list(self.shape)
        cut = f", {self.windows} windows each" if self.windows > 1 else ""
        cut += ", over channels" if self.rows == "channels" else ""
        doubt = "" if self.verified else f", unverified: {self.reason}"
        return f"AttentionCall({self.index}, {self.name!r}, {self.kind}, {shape}{cut}{doubt})"

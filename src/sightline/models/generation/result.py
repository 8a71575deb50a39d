"""What was written."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Generated(NamedTuple):
    """What a model wrote, without the prompt.

    Attributes:
        tokens: [B,T], filled up with ``pad`` behind the end; [B·candidates,T] of a search.
        lengths: [B], how many of them count, the ``end`` token included.
        scores: [B], Σ ln p of the tokens; of beam search divided by length^length_penalty.
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor

    def lists(self) -> list[list[int]]:
        """Each entry's own tokens."""
        return [row[:n].tolist() for row, n in zip(self.tokens, self.lengths.tolist(), strict=True)]

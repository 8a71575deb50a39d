"""What was written."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Generated(NamedTuple):
    """What a model wrote, without the prompt.

    Attributes:
        tokens: [B,T], filled with ``pad`` after the end; [B·candidates,T] of a search.
        lengths: [B], how many of them count, the ``end`` token included.
        scores: [B], Σ ln p of the tokens; of beam search divided by length^length_penalty.

    Example:
        >>> import torch
        >>> from sightline.models import Generated
        >>> Generated(torch.tensor([[4, 2, 0], [3, 3, 2]]), torch.tensor([2, 3]), torch.zeros(2)).lists()
        [[4, 2], [3, 3, 2]]
    """

    tokens: Tensor
    lengths: Tensor
    scores: Tensor

    def lists(self) -> list[list[int]]:
        """Each entry's own tokens."""
        return [row[:n].tolist() for row, n in zip(self.tokens, self.lengths.tolist(), strict=True)]

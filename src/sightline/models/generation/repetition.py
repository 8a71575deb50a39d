"""What has been written once is not written again."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class NoRepeat:
    """Bars the tokens that would end a run of ``size`` tokens which is there already; what is given counts.

    Args:
        size: of the runs; ``None`` bars nothing.
        ids: [B,N], what is given.
        lengths: [B]: how much of it counts. Default: all.

    Source: Paulus et al. 2018, "A deep reinforced model for abstractive summarization" (section 2.5).
    """

    def __init__(self, size: int | None, ids: Tensor, lengths: Tensor | None) -> None:
        self._size = size
        counts = [ids.shape[1]] * ids.shape[0] if lengths is None else lengths.tolist()
        self._given = [row[:count] for row, count in zip(ids.tolist(), counts, strict=True)]

    def __call__(self, log_p: Tensor, entries: Sequence[int], written: Tensor) -> Tensor:
        """ln p [R,V], −∞ where a token is barred; a row in which every token would be stays as it is.

        Args:
            log_p: [R,V], of the next token of each row.
            entries: [R], which entry a row continues.
            written: [R,T], what it has written.
        """
        if self._size is None:
            return log_p
        barred = torch.zeros_like(log_p, dtype=torch.bool)
        for row, (entry, text) in enumerate(zip(entries, written.tolist(), strict=True)):
            barred[row, ended_again([*self._given[entry], *text], self._size)] = True
        none_left = (barred | log_p.isneginf()).all(-1, keepdim=True)
        return log_p.masked_fill(barred & ~none_left, -torch.inf)


def ended_again(text: list[int], size: int) -> list[int]:
    """The tokens that would end a run of ``size`` tokens which is in the text already."""
    begun = text[len(text) - size + 1 :]
    starts = range(len(text) - size + 1)
    return [text[at + size - 1] for at in starts if text[at : at + size - 1] == begun]

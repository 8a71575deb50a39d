"""From tokens to frames: a monotonic path through cross-attention, and when each word is spoken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.measure.catalogue import catalogued
from sightline.measure.subject import layers
from sightline.measure.sweep import row_blocks

#: Bytes past which the table of steps is refused: one byte per token and frame.
STEPS_LIMIT = 1 << 30

# What a weight of 0 counts as, so that every path has a finite cost.
_LEAST = 1e-38

_DIAGONAL, _DOWN, _RIGHT = 0, 1, 2


class Path(NamedTuple):
    """A monotonic path: step by step a token and a frame, both [P] int64, and what it costs in all."""

    tokens: Tensor
    frames: Tensor
    cost: float


class WordTime(NamedTuple):
    """When a word is spoken, in seconds."""

    word: int
    start: float
    end: float


def dtw(costs: Tensor | Iterable[Tensor]) -> Path:
    """The cheapest monotonic path from the first cell of a table to the last.

    ``D_ij = c_ij + min(D_{i-1,j-1}, D_{i-1,j}, D_{i,j-1})``: each step goes one row on, one column on, or
    both. Of equal costs the diagonal wins, then the row.

    Args:
        costs: [n,m], finite, or blocks of its rows one after another. Time is n·m; of the table, only one
            byte per cell is kept.

    Returns:
        A :class:`Path` from (0, 0) to (n - 1, m - 1).

    Raises:
        ValueError: for an empty table or costs that are not finite; MemoryError: for more than 2^30 cells.

    Sources: Sakoe & Chiba 1978, Dynamic programming algorithm optimization for spoken word recognition;
    Giorgino 2009, Computing and visualizing dynamic time warping alignments in R.

    Example:
        >>> import sightline.measure, torch
        >>> path = sightline.measure.dtw(torch.tensor([[0.0, 0.0, 9.0], [9.0, 9.0, 0.0]]))
        >>> path.tokens.tolist(), path.frames.tolist(), path.cost
        ([0, 0, 1], [0, 1, 2], 0.0)
    """
    steps: list[Tensor] = []
    reached: Tensor | None = None
    size = 0
    for block in [costs] if isinstance(costs, Tensor) else costs:
        if not bool(torch.isfinite(block).all()):
            raise ValueError("dtw: costs must be finite.")
        size += block.numel()
        if size > STEPS_LIMIT:
            raise MemoryError(
                f"dtw: the table has more than {STEPS_LIMIT:,} cells. Align a segment at a time."
            )
        for row in block.double().cpu():
            reached, step = _next_row(reached, row)
            steps.append(step)
    if reached is None or not len(reached):
        raise ValueError("dtw: the table is empty; it needs a row and a column at least.")
    tokens, frames = _trace(torch.stack(steps))
    return Path(torch.tensor(tokens), torch.tensor(frames), float(reached[-1]))


@catalogued(
    formula="argmin over monotonic paths of Σ_(i,j) -ln w_ij, w averaged over heads and layers",
    unit="nats (the path's cost)",
    source="Sakoe & Chiba 1978, Dynamic programming algorithm optimization for spoken word recognition; "
    "Radford et al. 2022, Robust speech recognition via large-scale weak supervision (Whisper, whose word "
    "times are found like this, from normalized and median-filtered weights)",
    caveat="A path is always found, also where the heads do not align at all; look at its cost per step.",
)
def frame_alignment(
    A: Any,
    *,
    heads: Sequence[int] | None = None,
    rows: slice = slice(None),
    frames: int | None = None,
    unverified: bool = False,
) -> list[Path]:
    """The monotonic path of text tokens through audio frames that holds the most cross-attention.

    Dynamic time warping (:func:`dtw`) by the weights.

    Args:
        A: AttentionMatrix [B,H,N,M] of cross-attention with N tokens and M frames, or a sequence of them, one
            per layer. Choose layers and heads that align; for Whisper its alignment heads.
        heads: which heads of each layer count; all by default.
        rows: which tokens; leave out prompts and special tokens, whose rows would pull the path.
        frames: how many frames hold sound; the rest is padding. Default: all.
        unverified: measure traced calls that were not verified, too.

    Returns:
        One :class:`Path` per batch entry; ``.tokens`` counts from the start of ``rows``. A weight of 0, as
        in a fully masked row, counts as 1e-38.

    Raises:
        ValueError: if no token or frame is left, or layers differ in B, N or M; MemoryError: for more than
        2^30 tokens times frames; UnverifiedError: for an unverified call.

    Cost: one pass over each layer, then time N·M; kept is one byte per token and frame.

    Example:
        >>> import sightline.measure, torch
        >>> frames = torch.eye(2).repeat_interleave(3, dim=0)[None, None] * 9    # three frames a token
        >>> A = sightline.AttentionMatrix(torch.eye(2)[None, None], frames)
        >>> path = sightline.measure.frame_alignment(A)[0]
        >>> path.tokens.tolist(), path.frames.tolist()
        ([0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 4, 5])
    """
    matrices = layers(A, unverified)
    b, _, n, m = matrices[0].problem.shape
    for number, matrix in enumerate(matrices):
        other = matrix.problem.shape
        if (other[0], other[2], other[3]) != (b, n, m):
            raise ValueError(
                f"layers: layer {number} has B={other[0]}, N={other[2]}, M={other[3]}, but layer 0 has "
                f"B={b}, N={n}, M={m}."
            )
    if frames is not None and not 1 <= frames <= m:
        raise ValueError(f"frames: must lie between 1 and M={m} (axis M), got {frames}.")
    start, stop, step = rows.indices(n)
    if step != 1 or start >= stop:
        raise ValueError(f"rows: must be a slice of step 1 that holds a token of N={n}, got {rows}.")
    chosen = None if heads is None else list(heads)

    def costs(entry: int) -> Iterable[Tensor]:
        alone = [matrix[entry : entry + 1] for matrix in matrices]
        for place, blocks in row_blocks(alone, cut=False):
            wanted = slice(max(start, place.start) - place.start, min(stop, place.stop) - place.start)
            if wanted.start >= wanted.stop:
                continue
            kept = [block[0] if chosen is None else block[0, chosen] for block in blocks]
            weights = torch.cat(kept)[:, wanted, :frames].mean(0)
            yield -weights.double().clamp(min=_LEAST).log()

    return [dtw(costs(entry)) for entry in range(b)]


def word_times(path: Path, words: Tensor, hop: float = 0.02, offset: float = 0.0) -> list[WordTime]:
    """When each word is spoken: from its tokens' first frame to the end of their last.

    Args:
        path: from :func:`frame_alignment`.
        words: [N] integers, the word of each token of the path, from 0; -1 for tokens of no word.
        hop: seconds per frame. Default: Whisper's, 0.02 s.
        offset: seconds before the first frame.

    Returns:
        A :class:`WordTime` for each word of the path, by its number. A frame on which two tokens meet
        belongs to both.

    Raises:
        ValueError: if the path has more tokens than ``words``, or for a hop that is not above 0.

    Example:
        >>> import sightline.measure, torch
        >>> path = sightline.measure.Path(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 2, 3]), 0.0)
        >>> sightline.measure.word_times(path, torch.tensor([0, 1, 1]), hop=0.5)
        [WordTime(word=0, start=0.0, end=1.0), WordTime(word=1, start=1.0, end=2.0)]
    """
    if not hop > 0:
        raise ValueError(f"hop: must be above 0 seconds, got {hop}.")
    if len(path.tokens) and int(path.tokens.max()) >= len(words):
        raise ValueError(
            f"words: {len(words)} words for a path over {int(path.tokens.max()) + 1} tokens. Give the "
            "word of each token, -1 for none."
        )
    spans: dict[int, tuple[int, int]] = {}
    for token, frame in zip(path.tokens.tolist(), path.frames.tolist(), strict=True):
        word = int(words[token])
        if word >= 0:
            first, last = spans.get(word, (frame, frame))
            spans[word] = min(first, frame), max(last, frame)
    return [
        WordTime(word, offset + first * hop, offset + (last + 1) * hop)
        for word, (first, last) in sorted(spans.items())
    ]


def _next_row(above: Tensor | None, cost: Tensor) -> tuple[Tensor, Tensor]:
    """(the cheapest cost to each cell of a row, by which step it was reached).

    Going right along a row, D_j - C_j = min(D_{j-1} - C_{j-1}, B_j - C_{j-1}), with C the running sum of the
    costs and B_j the cheaper of the two cells above: a running minimum.
    """
    if above is None:
        step = torch.full(cost.shape, _RIGHT, dtype=torch.uint8)
        return cost.cumsum(0), step
    diagonal = torch.cat((above.new_full((1,), torch.inf), above[:-1]))
    step = torch.where(diagonal <= above, _DIAGONAL, _DOWN).to(torch.uint8)
    total = cost.cumsum(0)
    entered = torch.minimum(diagonal, above) - (total - cost)
    least, where = entered.cummin(0)
    # cummin names the last of equal minima: a tie enters from above.
    step = torch.where(where == torch.arange(len(cost)), step, _RIGHT)
    return least + total, step


def _trace(steps: Tensor) -> tuple[list[int], list[int]]:
    """The path back from the last cell, turned round."""
    i, j = steps.shape[0] - 1, steps.shape[1] - 1
    tokens, frames = [i], [j]
    table = steps.numpy()
    while i or j:
        step = _RIGHT if i == 0 else _DOWN if j == 0 else int(table[i, j])
        i -= step != _RIGHT
        j -= step != _DOWN
        tokens.append(i)
        frames.append(j)
    return tokens[::-1], frames[::-1]

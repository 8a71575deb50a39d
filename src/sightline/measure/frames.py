"""From tokens to audio frames: a monotonic path through cross-attention, and when each word is spoken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.common.check import integer, integers_tensor, kind, number
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.keys import chosen_heads
from sightline.measure.layers import alike
from sightline.measure.side_by_side import row_blocks
from sightline.measure.subject import Layers, matrices
from sightline.measure.warping import Path, dtw

# What a weight of 0 counts as, so that every path has a finite cost.
_LEAST = 1e-38


class WordTime(NamedTuple):
    """When a word is spoken, in seconds.

    Example:
        >>> import sightline.measure
        >>> word = sightline.measure.WordTime(word=3, start=0.5, end=0.75)
        >>> word.end - word.start
        0.25
    """

    word: int
    start: float
    end: float


@catalogued(
    formula="argmin over monotonic paths of Σ_(i,j) -ln w_ij, w averaged over heads and layers",
    unit="nats (the path's cost)",
    source="Sakoe & Chiba 1978, Dynamic programming algorithm optimization for spoken word recognition; "
    "Radford et al. 2022, Robust speech recognition via large-scale weak supervision (Whisper, whose word "
    "times are found like this, from normalized and median-filtered weights)",
    caveat="A path is always found, also where the heads do not align at all; look at its cost per step.",
)
def frame_alignment(
    A: Layers,
    *,
    heads: Sequence[int] | None = None,
    rows: slice = slice(None),
    frames: int | None = None,
    unverified: bool = False,
) -> list[Path]:
    """The monotonic path of text tokens through audio frames that holds the most cross-attention.

    Dynamic time warping (:func:`dtw`) by the weights. Cost: one pass over each layer, then time N·M; one
    byte per token and frame is kept.

    Args:
        A: AttentionMatrix [B,H,N,M] of cross-attention with N tokens and M frames, or a sequence of them, one
            per layer. Choose layers and heads that align; for Whisper its alignment heads.
        heads: which heads of each layer count. Default: all.
        rows: which tokens; leave out prompts and special tokens, whose rows would pull the path. Default:
            all.
        frames: how many frames hold sound; the rest is padding. Default: all.

    Returns:
        One :class:`Path` per batch entry; ``.tokens`` counts from the start of ``rows``. A weight of 0, as
        in a fully masked row, counts as 1e-38.

    Raises:
        ValueError: if no token or frame is left, or layers differ in B, N or M.
        MemoryError: for more than 2^30 tokens times frames.

    Example:
        >>> import sightline.measure, torch
        >>> frames = torch.eye(2).repeat_interleave(3, dim=0)[None, None] * 9    # three frames a token
        >>> A = sightline.AttentionMatrix(torch.eye(2)[None, None], frames)
        >>> path = sightline.measure.frame_alignment(A)[0]
        >>> path.tokens.tolist(), path.frames.tolist()
        ([0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 4, 5])
    """
    layers = alike(matrices(A, unverified))
    b, _, n, m = layers[0].sizes
    if frames is not None:
        frames = integer("frames", frames, 1, m, remedy="M is the last axis.")
    start, stop, step = _bounds(rows, n)
    if step != 1 or start >= stop:
        raise ValueError(f"rows: must be a slice of step 1 that holds a token of N={n}, got {rows}.")
    least = min(layer.sizes[1] for layer in layers)
    chosen = slice(None) if heads is None else chosen_heads(heads, least)
    entries = ([layer[entry : entry + 1] for layer in layers] for entry in range(b))
    return [dtw(_costs(alone, chosen, slice(start, stop), frames)) for alone in entries]


def _bounds(rows: slice, n: int) -> tuple[int, int, int]:
    kind("rows", rows, slice, "a slice")
    try:
        return rows.indices(n)
    except TypeError:
        raise TypeError(f"rows: must be a slice of integers, got {rows}.") from None


def _costs(
    layers: list[AttentionMatrix], heads: slice | list[int], rows: slice, frames: int | None
) -> Iterator[Tensor]:
    """-ln of the mean weights over heads and layers of one batch entry, [n,M], some rows at a time."""
    for place, blocks in row_blocks(layers, cut=False):
        first, last = max(rows.start, place.start), min(rows.stop, place.stop)
        if first < last:
            wanted = slice(first - place.start, last - place.start)
            weights = torch.cat([block[0, heads] for block in blocks])[:, wanted, :frames].mean(0)
            yield -weights.double().clamp(min=_LEAST).log()


def word_times(path: Path, words: Tensor, hop: float = 0.02, offset: float = 0.0) -> list[WordTime]:
    """When each word is spoken: from its tokens' first frame to the end of their last.

    A word that starts with frame a and ends with frame b is spoken from offset + a · hop to
    offset + (b + 1) · hop.

    Args:
        path: from :func:`frame_alignment`.
        words: [N] integers, the word of each token of the path, from 0; -1 for tokens of no word.
        hop: seconds per frame. Default: Whisper's, 0.02 s.
        offset: seconds before the first frame. Default: 0.

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
    kind("path", path, Path, "a Path, as frame_alignment() finds one")
    hop, offset = number("hop", hop, above=0), number("offset", offset)
    words = integers_tensor("words", words, "[N]")
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

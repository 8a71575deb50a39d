"""From subwords to words, and from words to words of another sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.common.check import check_device, check_integers, choice, fits
from sightline.matrix import AttentionMatrix, part_of
from sightline.measure.catalogue import catalogued
from sightline.measure.keys import chosen_heads
from sightline.measure.rows import visible
from sightline.measure.sources import CLARK_2019
from sightline.measure.subject import Layers, Measurable, matrices, measured


class Pair(NamedTuple):
    """A query word, a key word, and the weight between them.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.eye(2).expand(2, 1, 1, 2, 2) * 9)
        >>> sightline.measure.word_alignment(A, torch.arange(2), torch.arange(2))[0][1][:2]
        (1, 1)
    """

    query: int
    key: int
    weight: float


@catalogued(
    formula="W_ab = mean_{i in word a} Σ_{j in word b} w_ij",
    unit="share of weight",
    range=(0, 1),
    source=f"{CLARK_2019} (token to word attention)",
    caveat="Special tokens hold much of the weight: left out of the words, rows sum to less than 1.",
)
def merge_words(
    A: Measurable, query_words: Tensor, key_words: Tensor | None = None, *, unverified: bool = False
) -> Tensor:
    """The attention matrix by words: a sum over a word's keys, a mean over its queries.

    So rows still sum to 1 where every key belongs to a word.

    Args:
        query_words: [N] or [B,N] integers, the word of each query, from 0; -1 for tokens of no word.
        key_words: [M] or [B,M], the word of each key. Default: as the queries', for N = M.

    Returns:
        [B,H,V,W] for V and W words, dense: one pass, and memory for the words. Fully masked queries do not
        count; a word with no other reads 0.

    Raises:
        TypeError, ValueError: for words that do not fit.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2))       # four equal tokens
        >>> sightline.measure.merge_words(A, torch.tensor([0, 1, 1, 1]))     # in two words
        tensor([[[[0.2500, 0.7500], [0.2500, 0.7500]]]])
    """
    one = measured(A, unverified)
    return one.shaped(_merged(one.matrix, query_words, key_words))


@catalogued(
    formula="pairs (a, b) with b = argmax_b W_ab (mutual: and a = argmax_a W_ab), W the weights by words",
    unit="weight of a pair",
    range=(0, 1),
    source="Garg et al. 2019, Jointly learning to align and translate with Transformer models; Jalili Sabet "
    "et al. 2020, SimAlign (mutual argmax); Och & Ney 2003, A systematic comparison of various statistical "
    "alignment models (intersection and union)",
    caveat="Attention aligns worse than an aligner made for it, and often points at the word after the one "
    "being translated.",
)
def word_alignment(
    A: Layers,
    query_words: Tensor,
    key_words: Tensor,
    *,
    heads: Sequence[int] | None = None,
    method: str = "mutual",
    reverse: Layers | None = None,
    unverified: bool = False,
) -> list[list[Pair]]:
    """Which words belong together in two sequences, read off cross-attention.

    Weights are merged to words, then averaged over heads and layers.

    Args:
        A: AttentionMatrix [B,H,N,M] of cross-attention, or a sequence of them, one per layer. Choose layers
            that align: those in the middle of a translation model as a rule, not the last.
        query_words, key_words: as for :func:`merge_words`.
        heads: which heads of each layer count. Default: all.
        method: "argmax": each query word with its largest key word. "mutual": pairs that are each other's
            largest. "intersection", "union": of the argmaxes of both directions, with ``reverse``. Default:
            "mutual".
        reverse: the matrix (or layers) of the opposite direction, [B,H,M,N], from a model that translates
            back; for "intersection" and "union". Default: none.

    Returns:
        For each batch entry a list of :class:`Pair` (query word, key word, weight), in order. Words without
        weight, such as those of fully masked queries, stand in no pair. Ties go to the first word.

    Raises:
        ValueError: for another method, a missing or needless ``reverse``, or words that do not fit.

    Example:
        >>> import sightline.measure, torch
        >>> key = torch.eye(3)[None, None] * 9
        >>> A = sightline.AttentionMatrix(key.flip(2), key, scale=1.0)       # word order turned round
        >>> words = torch.arange(3)
        >>> [(pair.query, pair.key) for pair in sightline.measure.word_alignment(A, words, words)[0]]
        [(0, 2), (1, 1), (2, 0)]
    """
    choice("method", method, ("argmax", "mutual", "intersection", "union"))
    if (reverse is not None) != (method in ("intersection", "union")):
        raise ValueError(
            f"reverse: {'missing' if reverse is None else 'not used'} with method={method!r}; 'intersection' "
            "and 'union' join two directions, 'argmax' and 'mutual' read one."
        )
    weights = _fused(A, query_words, key_words, heads, unverified)
    back = None if reverse is None else _fused(reverse, key_words, query_words, heads, unverified)
    return [_pairs(one, method, None if back is None else back[entry]) for entry, one in enumerate(weights)]


def _pairs(weights: Tensor, method: str, back: Tensor | None) -> list[Pair]:
    """The pairs of one batch entry from its weights [V,W], and [W,V] for the opposite direction."""
    if not weights.numel():
        return []
    kept = _row_argmax(weights)
    if method == "mutual":
        kept &= _row_argmax(weights.T).T
    elif back is not None:
        other = _row_argmax(back).T
        kept = kept & other if method == "intersection" else kept | other
    return [Pair(v, w, float(weights[v, w])) for v, w in kept.nonzero().tolist()]


def _row_argmax(weights: Tensor) -> Tensor:
    """[V,W] bool: the largest of each row, where it is above 0."""
    best = torch.zeros_like(weights, dtype=torch.bool)
    best.scatter_(1, weights.argmax(-1, keepdim=True), True)
    return best & (weights > 0)


def _fused(
    A: Layers, query_words: Tensor, key_words: Tensor, heads: Sequence[int] | None, unverified: bool
) -> Tensor:
    """[B,V,W]: the mean over heads and layers of the weights by words."""
    layers = [_merged(matrix, query_words, key_words) for matrix in matrices(A, unverified)]
    chosen = [layer if heads is None else layer[:, chosen_heads(heads, layer.shape[1])] for layer in layers]
    return torch.cat(chosen, dim=1).mean(1)


def _merged(matrix: AttentionMatrix, query_words: Tensor, key_words: Tensor | None) -> Tensor:
    b, _, n, m = matrix.sizes
    if key_words is None:
        if n != m:
            raise ValueError(
                f"key_words: missing, and N={n} queries differ from M={m} keys. Give [M] or [B,M]."
            )
        key_words = query_words
    queries = _words(matrix, query_words, "query_words", n, "N")
    keys = _words(matrix, key_words, "key_words", m, "M")
    return _by_words(matrix, queries, keys)


def _by_words(matrix: AttentionMatrix, query_words: Tensor, key_words: Tensor) -> Tensor:
    """[B,H,V,W] for checked words [1|B,N] and [1|B,M]."""
    b, h, n, _ = matrix.sizes
    height, width = (int(words.max()) + 1 if words.numel() else 0 for words in (query_words, key_words))
    # One row and column more gather what belongs to no word.
    queries = query_words.masked_fill(query_words < 0, height).expand(b, n)
    keys = key_words.masked_fill(key_words < 0, width)
    sums = torch.zeros((b, h, height + 1, width + 1), dtype=torch.float64, device=matrix.device)
    for block in matrix.blocks():
        weights = block.weights.double()
        of_keys = part_of(keys, 0, block.batch)[:, None, None, block.cols].expand(weights.shape)
        wide = weights.new_zeros((*weights.shape[:3], width + 1)).scatter_add_(3, of_keys, weights)
        of_queries = queries[block.batch, None, block.rows, None].expand(wide.shape)
        sums[block.batch].scatter_add_(2, of_queries, wide)
    counts = torch.zeros((b, h, height + 1), dtype=torch.float64, device=matrix.device)
    counts.scatter_add_(2, queries[:, None].expand(b, h, n), (visible(matrix).counts > 0).double())
    means = sums / counts.clamp(min=1)[..., None]
    return means[:, :, :height, :width].to(matrix.lse.dtype)


def _words(matrix: AttentionMatrix, words: Tensor, name: str, length: int, axis: str) -> Tensor:
    if not isinstance(words, Tensor):
        raise TypeError(
            f"{name}: expected an integer tensor [{axis}] or [B,{axis}], got {type(words).__name__}."
        )
    check_integers(name, words)
    check_device(name, words, matrix.device)
    b = matrix.sizes[0]
    if words.dim() == 0 or words.shape[-1] != length:
        raise ValueError(
            f"{name}: shape {list(words.shape)} does not fit [B={b}, {axis}={length}]: give the word of each "
            "token, -1 for none."
        )
    if words.numel() and int(words.min()) < -1:
        raise ValueError(f"{name}: words count from 0, with -1 for none, got {int(words.min())}.")
    return fits(name, words, ("B", axis), (b, length)).long()

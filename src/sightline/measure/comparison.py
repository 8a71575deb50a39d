"""Two inputs, or two models: where their heads look differently."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from sightline.common.check import integer
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.docstrings import documented
from sightline.measure.rows import counted, head_mean, visible
from sightline.measure.side_by_side import full_row_blocks, row_entropy
from sightline.measure.sources import JAIN_2019, ZHAI_2023
from sightline.measure.subject import Layers, Measurable, is_one, matrices, measured


@catalogued(
    formula="mean_i ½ Σ_j |w_ij - w'_ij|",
    unit="share of weight",
    range=(0, 1),
    source=f"{JAIN_2019} (there between outputs)",
    caveat="Outputs may agree where attention differs, and differ where it agrees.",
)
def total_variation(
    left: Measurable, right: Measurable, *, queries: Tensor | None = None, unverified: bool = False
) -> Tensor:
    """How much weight lies elsewhere, head by head, between two matrices of the same shape.

    Example:
        >>> import sightline.measure, torch
        >>> left = sightline.AttentionMatrix(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 4, 2))
        >>> right = sightline.AttentionMatrix(left.query, left.key, mask=sightline.prefix(2))
        >>> sightline.measure.total_variation(left, right)
        tensor([[0.5000]])
    """
    return _Two.of(left, right, queries, unverified).rowwise(_variation)[0]


@catalogued(
    formula="mean_i H((w_i + w'_i) / 2) - (H(w_i) + H(w'_i)) / 2, with H the entropy",
    unit="nats",
    range=(0, math.log(2)),
    source=f"{JAIN_2019} (Jensen-Shannon divergence between attentions)",
    caveat="Outputs may agree where attention differs, and differ where it agrees.",
)
def jensen_shannon(
    left: Measurable, right: Measurable, *, queries: Tensor | None = None, unverified: bool = False
) -> Tensor:
    """How differently two matrices of the same shape look, head by head: 0 for the same rows, at most ln 2.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2))
        >>> sightline.measure.jensen_shannon(A, A)
        tensor([[0.]])
    """
    return _Two.of(left, right, queries, unverified).rowwise(_divergence)[0]


@catalogued(
    formula="mean_i H(w'_i) - H(w_i), with H the entropy; positive where the second is broader",
    unit="nats",
    range=(-math.inf, math.inf),
    source=ZHAI_2023,
    caveat="0 does not mean that they look at the same keys, only at as many.",
)
def entropy_difference(
    left: Measurable, right: Measurable, *, queries: Tensor | None = None, unverified: bool = False
) -> Tensor:
    """How much broader the second matrix looks than the first, head by head.

    Returns:
        [B,H], the mean over queries that see a key in both; NaN where none does. Entropies under sinks are
        not rescaled.

    Example:
        >>> import sightline.measure, torch
        >>> left = sightline.AttentionMatrix(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 4, 2))
        >>> right = sightline.AttentionMatrix(left.query, left.key, mask=sightline.prefix(2))
        >>> sightline.measure.entropy_difference(left, right)        # ln 2 - ln 4
        tensor([[-0.6931]])
    """
    return _Two.of(left, right, queries, unverified).entropy_difference()


@catalogued(
    formula="mean_i |T_i ∩ T'_i| / max(|T_i|, |T'_i|), with T_i the keys of the k largest weights of row i",
    unit="share of keys",
    range=(0, 1),
    source="Fagin et al. 2003, Comparing top k lists",
    caveat="Keys with nearly equal weights change places by rounding alone; a broad head overlaps little "
    "with itself.",
)
def topk_overlap(
    left: Measurable,
    right: Measurable,
    k: int = 8,
    *,
    queries: Tensor | None = None,
    unverified: bool = False,
) -> Tensor:
    """How many of the keys that a row weighs most are the same in both matrices.

    Args:
        k: how many keys, at most M; rows that see fewer compare those. Default: 8.

    Returns:
        [B,H], the mean over queries that see a key in both; NaN where none does.

    Raises:
        ValueError: unless 1 <= k <= M.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 1, 20, 4))
        >>> sightline.measure.topk_overlap(A, A, k=3)
        tensor([[1.]])
    """
    return _Two.of(left, right, queries, unverified).topk_overlap(k)


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` finds, by the functions of the same names: [B,H] each, for layers [L,B,H].

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 4, 2))
        >>> sightline.measure.compare(A, A).total_variation
        tensor([[0.]])
    """

    total_variation: Tensor
    jensen_shannon: Tensor
    entropy_difference: Tensor
    topk_overlap: Tensor


@documented
def compare(
    left: Layers, right: Layers, k: int = 8, *, queries: Tensor | None = None, unverified: bool = False
) -> Comparison:
    """Total variation, Jensen-Shannon divergence, entropy difference and top-k overlap, head by head.

    Formulas, units, sources and caveats are those of the functions of these names.

    Args:
        left, right: two AttentionMatrix [B,H,N,M], or two sequences of them, one per layer (two traces).
        k: how many keys the overlap is taken of, cut to M. Default: 8.

    Returns:
        A :class:`Comparison`, [B,H] each; for sequences [L,B,H]. Rows that see no key in one of the two, such
        as fully masked ones, do not count.

    Raises:
        ValueError: for different numbers of layers, or layers with different numbers of heads.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.randn(2, 1, 2, 20, 4))
        >>> sightline.measure.compare([A, A], [A, A]).total_variation.shape
        torch.Size([2, 1, 2])
    """
    k = integer("k", k, 1)
    if is_one(left) and is_one(right):
        return _Two.of(left, right, queries, unverified).comparison(k)
    lefts, rights = matrices(left, unverified), matrices(right, unverified)
    if len(lefts) != len(rights):
        raise ValueError(
            f"compare: {len(lefts)} layers on the left, {len(rights)} on the right. Choose the layers that "
            "belong together, such as left[:n] and right[:n]."
        )
    pairs = zip(lefts, rights, strict=True)
    layers = [_Two.of(one, other, queries, unverified).comparison(k) for one, other in pairs]
    if len({layer.total_variation.shape for layer in layers}) > 1:
        raise ValueError("compare: layers differ in heads or batch; compare them one by one.")
    names = [field.name for field in fields(Comparison)]
    return Comparison(**{name: torch.stack([getattr(layer, name) for layer in layers]) for name in names})


@dataclass(frozen=True)
class _Two:
    """Two matrices of the same shape.

    Attributes:
        left, right: [B,H,N,M].
        lead: what results are shaped like, [B,H].
        rows: bool [B,H,N], the rows that count: those that see a key in both.
    """

    left: AttentionMatrix
    right: AttentionMatrix
    lead: torch.Size
    rows: Tensor

    @classmethod
    def of(cls, left: Measurable, right: Measurable, queries: Tensor | None, unverified: bool) -> _Two:
        one, other = measured(left, unverified), measured(right, unverified)
        _check_alike(one.matrix, other.matrix)
        seen = [visible(matrix).counts > 0 for matrix in (one.matrix, other.matrix)]
        return cls(one.matrix, other.matrix, one.lead, counted(one.matrix, seen[0] & seen[1], queries))

    def mean(self, values: Tensor) -> Tensor:
        """[B,H,N] -> [B,H]."""
        return head_mean(values, self.rows).reshape(self.lead)

    def rowwise(self, *functions: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        """The means of functions of two rows; both matrices are read once, side by side."""
        values = [torch.zeros_like(self.left.lse) for _ in functions]
        for place, (left, right) in full_row_blocks([self.left, self.right]):
            for value, function in zip(values, functions, strict=True):
                value[:, :, place] = function(left, right)
        return [self.mean(value) for value in values]

    def entropy_difference(self) -> Tensor:
        return self.mean(self.right.entropy() - self.left.entropy())

    def topk_overlap(self, k: int) -> Tensor:
        mine, theirs = (matrix.topk(k).indices for matrix in (self.left, self.right))
        shared = ((mine[..., None] == theirs[..., None, :]) & (mine[..., None] >= 0)).any(-1).sum(-1)
        most = torch.maximum((mine >= 0).sum(-1), (theirs >= 0).sum(-1))
        return self.mean(shared.to(self.left.lse.dtype) / most.clamp(min=1))

    def comparison(self, k: int) -> Comparison:
        overlap = self.topk_overlap(min(k, self.left.sizes[3]))
        variation, divergence = self.rowwise(_variation, _divergence)
        return Comparison(variation, divergence, self.entropy_difference(), overlap)


def _variation(left: Tensor, right: Tensor) -> Tensor:
    return (left - right).abs().sum(-1) / 2


def _divergence(left: Tensor, right: Tensor) -> Tensor:
    mixed = row_entropy((left + right) / 2)
    return (mixed - (row_entropy(left) + row_entropy(right)) / 2).clamp(min=0)


def _check_alike(left: AttentionMatrix, right: AttentionMatrix) -> None:
    mine, theirs = left.sizes, right.sizes
    if mine[2:] != theirs[2:]:
        raise ValueError(
            f"compare: N={mine[2]}, M={mine[3]} on the left, N={theirs[2]}, M={theirs[3]} on the right. "
            "Rows of different lengths have no common keys: cut or pad both inputs to the same tokens, merge "
            "them to the same words (merge_words), or compare numbers per head, such as "
            "entropy(normalized=True)."
        )
    if mine[:2] != theirs[:2]:
        raise ValueError(
            f"compare: B={mine[0]}, H={mine[1]} on the left, B={theirs[0]}, H={theirs[1]} on the right. "
            "Choose batches and heads that belong together, such as A[:, 2:3]."
        )
    if left.device != right.device:
        raise ValueError(f"compare: {left.device} and {right.device}; move one with .to(device).")

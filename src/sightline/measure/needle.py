"""Retrieval heads: those that look at the very token that is being copied out of a long context."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.common.check import check_device, check_integers, fits, kind
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.keys import Keys, chosen
from sightline.measure.repeats import looked_up, token_ids
from sightline.measure.subject import Measurable, measured
from sightline.positions.align import Align, positions


@catalogued(
    formula="|{j in needle: some query i generates t_j and argmax_k w_ik = j}| / |needle|",
    unit="share of the needle",
    range=(0, 1),
    source="Wu et al. 2024, Retrieval head mechanistically explains long-context factuality",
    caveat="It counts only answers that repeat the needle word by word, and only the single largest weight "
    "of a row; average it over many needles and depths.",
)
def retrieval(
    A: Measurable,
    tokens: Tensor,
    needle: Keys,
    generated: Tensor | None = None,
    *,
    align: Align = "bottom-right",
    unverified: bool = False,
) -> Tensor:
    """How much of a needle a head copies: it looks most at the needle's token that is generated just then.

    Args:
        A: AttentionMatrix [B,H,N,M], or a traced call that holds one; for a generation with a cache, its
            stitched rows.
        tokens: [M] or [B,M] token ids of the keys.
        needle: where the needle stands: a slice, positions [K] or [B,K], a bool tensor [M] or [B,M]. A
            token that stands in it twice counts twice.
        generated: [N] or [B,N], the token that is generated at each query; -1 for none. Default: the token
            after the query's position, which is right when the answer stands in ``tokens``.

    Returns:
        [B,H]; NaN for an empty needle. Fully masked rows copy nothing.

    Raises:
        TypeError, ValueError: for needles or generated tokens that do not fit.

    Example:
        >>> import sightline.measure, torch
        >>> tokens = torch.tensor([5, 6, 7, 1, 6, 7])             # the needle 6 7, later repeated
        >>> query, key = torch.zeros(1, 1, 6, 6), torch.eye(6)[None, None]
        >>> query[0, 0, 3, 1] = query[0, 0, 4, 2] = 9.0           # before 6 look at 6, before 7 at 7
        >>> A = sightline.AttentionMatrix(query, key, mask=sightline.causal())
        >>> sightline.measure.retrieval(A, tokens, slice(1, 3))
        tensor([[1.]])
    """
    one = measured(A, unverified)
    matrix = one.matrix
    b, h, _, m = matrix.sizes
    ids = token_ids(matrix, tokens).expand(b, m)
    wanted = chosen(matrix, needle, "needle")[:, None]
    if generated is None:
        written, real = _following(matrix, ids, align)
    else:
        written, real = _generated(matrix, generated)
    copied = _copied(matrix, ids, written, real)
    share = (copied & wanted).sum(-1) / wanted.sum(-1)
    return one.shaped(share.expand(b, h).to(matrix.lse.dtype))


def _copied(matrix: AttentionMatrix, ids: Tensor, written: Tensor, real: Tensor) -> Tensor:
    """The keys whose token is written by a query that looks at them most, bool [B,H,M].

    Args:
        ids: [B,M].
        written: [B,N], the token that is written at each query; ``real`` [B,N] says whether there is one.
    """
    b, h, _, m = matrix.sizes
    key = matrix.max().indices
    place = key.clamp(min=0)
    same = looked_up(ids, place.flatten(1)).reshape(place.shape) == written[:, None]
    hit = same & (key >= 0) & real[:, None]
    # One place more than there are keys, so that a matrix without any has where to count to.
    hits = torch.zeros((b, h, m + 1), dtype=torch.int64, device=matrix.device)
    return hits.scatter_add_(2, place, hit.long())[..., :m] > 0


def _following(matrix: AttentionMatrix, ids: Tensor, align: Align) -> tuple[Tensor, Tensor]:
    """(the token after each query's position, whether there is one), both [B,N]."""
    b, _, n, m = matrix.sizes
    place = positions(align, b, n, m, matrix.device).long() + 1
    inside = (place >= 0) & (place < m)
    return looked_up(ids, place.expand(b, n)), inside.expand(b, n)


def _generated(matrix: AttentionMatrix, generated: Tensor) -> tuple[Tensor, Tensor]:
    """(the token that is generated at each query, whether there is one), both [B,N]."""
    b, _, n, _ = matrix.sizes
    kind("generated", generated, Tensor, "an integer tensor [N] or [B,N]")
    check_integers("generated", generated)
    check_device("generated", generated, matrix.device)
    if generated.dim() == 0 or generated.shape[-1] != n:
        raise ValueError(
            f"generated: shape {list(generated.shape)} does not fit [B={b}, N={n}]: one token per query, "
            "-1 for none."
        )
    full = fits("generated", generated, ("B", "N"), (b, n)).expand(b, n)
    return full, full != -1

"""Entropy regularisation: rows that are to stay as spread out as one wants them."""

from __future__ import annotations

from torch import Tensor

from sightline.common.check import flag, number
from sightline.losses.given import over_layers, reduced, rows_that_see
from sightline.matrix import AttentionMatrix
from sightline.measure.rows import visible
from sightline.measure.subject import Layers


def entropy(
    A: Layers,
    *,
    floor: float | None = None,
    target: float | None = None,
    normalized: bool = True,
    queries: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Keeps the entropy of rows above a floor, or near a target.

    ``max(0, floor − Hᵢ)²`` or ``(Hᵢ − target)²`` of each row i, with ``Hᵢ = −Σⱼ wᵢⱼ ln wᵢⱼ``, and normalized
    ``Hᵢ / ln(number of keys that i may see)``: 1 for equal weights, whatever a causal row sees. What a
    learned sink takes is left out of the sum. A row that looks at one key alone has hardly any gradient left,
    as its softmax has none: the loss keeps rows from collapsing, and does not bring them back.

    Args:
        A: AttentionMatrix [B,H,N,M], or a call that holds one; of a sequence of them, as
            :func:`~sightline.losses.watch` gives, the mean is taken.
        floor: what rows are to stay above: a share of 1 if normalized, else nats. Give this or a target.
        target: what rows are to be near.
        normalized: whether entropies are those shares. Rows that see one key do not count then.
            Default: True.
        queries: bool [N] or [B,N], which queries count; leave padding out here. Default: all.
        reduction: "mean" over all rows that count, "heads" [H], or "none" [B,H,N] with 0 for the others.

    Returns:
        The loss, float32 or better; 0 where no row counts.

    Raises:
        ValueError: unless exactly one of floor and target is given, for one below 0 or, if normalized, above
            1, for a detached matrix while gradients are on; TypeError: for what is no matrix.

    Source: Zhai et al. 2023, "Stabilizing Transformer training by preventing attention entropy collapse"
    (what collapses; their own remedy reparametrises the weights, the penalty is the plain way to ask for it).

    Example:
        >>> import sightline, torch
        >>> query, key = torch.randn(2, 1, 2, 10, 4).requires_grad_()
        >>> A = sightline.AttentionMatrix(query, key, mask=sightline.causal(), detach=False)
        >>> sightline.losses.entropy(A, floor=0.5).requires_grad
        True
    """
    normalized = flag("normalized", normalized)
    if (floor is None) == (target is None):
        raise ValueError("floor, target: give one of the two.")
    name, wanted = ("target", target) if floor is None else ("floor", floor)
    limit = number(name, wanted, 0, 1 if normalized else None)

    def of_one(matrix: AttentionMatrix) -> Tensor:
        values = matrix.entropy()
        if normalized:
            values = values / visible(matrix).counts.clamp(min=2).to(values.dtype).log()
        apart = (limit - values).clamp(min=0) if target is None else values - limit
        return reduced(apart.square(), rows_that_see(matrix, queries, 2 if normalized else 1), reduction)

    return over_layers(A, reduction, of_one)

"""Products in which query heads share the key/value head of their group, which is not repeated.

Letters: b batch, H query heads, G key/value heads, n queries, m keys; x is summed over or comes out.
"""

from __future__ import annotations

from torch import Tensor


def grouped_product(left: Tensor, right: Tensor) -> Tensor:
    """[b,H,n,x] @ [b,G,x,m] -> [b,H,n,m]: each query head with its group's right-hand side."""
    b, h, n, x = left.shape
    groups = right.shape[1]
    if not groups:  # of no heads
        return left.new_zeros((b, h, n, right.shape[-1]))
    folded = left.reshape(b, groups, h // groups * n, x) @ right
    return folded.reshape(b, h, n, right.shape[-1])


def product_to_keys(left: Tensor, right: Tensor, groups: int) -> Tensor:
    """Σ over the queries and heads of a group: [b,H,n,m]ᵀ @ [b,H,n,x] -> [b,G,m,x]."""
    b, h, n, m = left.shape
    if not groups:
        return left.new_zeros((b, groups, m, right.shape[-1]))
    folded = left.reshape(b, groups, h // groups * n, m)
    return folded.transpose(-1, -2) @ right.reshape(b, groups, h // groups * n, right.shape[-1])

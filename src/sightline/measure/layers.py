"""What layers must have in common to be measured together."""

from __future__ import annotations

from sightline.matrix import AttentionMatrix


def alike(matrices: list[AttentionMatrix]) -> list[AttentionMatrix]:
    """The layers, if they have the same batch, queries and keys; heads may differ."""
    b, _, n, m = matrices[0].sizes
    for number, matrix in enumerate(matrices):
        other = matrix.sizes
        if (other[0], other[2], other[3]) != (b, n, m):
            raise ValueError(
                f"layers: layer {number} has B={other[0]}, N={other[2]}, M={other[3]}, but layer 0 has "
                f"B={b}, N={n}, M={m}. Take layers of one kind: self-attention of one sequence, or "
                "cross-attention."
            )
    return matrices


def square(matrices: list[AttentionMatrix]) -> list[AttentionMatrix]:
    """The layers, if each is self-attention over one and the same sequence."""
    b, _, length, _ = matrices[0].sizes
    for number, matrix in enumerate(matrices):
        other, _, n, m = matrix.sizes
        if n != m:
            raise ValueError(
                f"layers: layer {number} has N={n} queries and M={m} keys; layers can only be multiplied "
                "where N = M. Leave cross-attention out; stitch the steps of a generation into whole "
                "matrices."
            )
        if (other, n) != (b, length):
            raise ValueError(
                f"layers: layer {number} has B={other}, N={n}, but layer 0 has B={b}, N={length}. Take "
                "layers of one sequence."
            )
    return matrices

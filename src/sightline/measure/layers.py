"""What layers must have in common to be measured together."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.measure.subject import Layers, is_one


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


def whole(layer: object, number: int | None = None) -> None:
    """Refuses a traced call whose rows are no positions of the whole input: windows, or channels."""
    windows, rows = getattr(layer, "windows", 1), getattr(layer, "rows", "positions")
    if windows <= 1 and rows == "positions":
        return
    which = getattr(layer, "name", "") or (f"layer {number}" if number is not None else "this call")
    what = f"cuts each input into {windows} windows" if windows > 1 else f"has {rows} for rows"
    raise ValueError(
        f"layers: {which} {what}: layers can only be multiplied where the rows of all are the positions of "
        "the whole input. Take such layers alone (under=, or a list of calls)."
    )


def uncut(layers: Layers) -> Layers:
    """The layers, of which none looks at windows; see :func:`whole`."""
    if is_one(layers) or isinstance(layers, Tensor) or not isinstance(layers, Iterable):
        whole(layers)
        return layers
    each = list(layers)
    for number, layer in enumerate(each):
        whole(layer, number)
    return each


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

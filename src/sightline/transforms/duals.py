"""Dual tensors of forward mode: a primal and its tangent."""

from __future__ import annotations

from torch import Tensor
from torch.autograd import forward_ad

from sightline.backends.derivatives.order import Arrays
from sightline.common import dispatcher


def apart(arrays: Arrays) -> tuple[Arrays, Arrays]:
    """(primals, tangents) of the innermost transform, where that is forward mode; else no tangents.

    Nor where autograd records the same tensors: what it keeps for a backward pass must have its tangents.
    """
    if not dispatcher.innermost_is_forward_mode() or dispatcher.are_recorded(arrays):
        return arrays, (None,) * len(arrays)
    pairs = [(None, None) if array is None else forward_ad.unpack_dual(array) for array in arrays]
    return tuple(primal for primal, _ in pairs), tuple(tangent for _, tangent in pairs)


def joined(primal: Tensor, tangent: Tensor) -> Tensor:
    """A dual tensor of the innermost level."""
    dual: Tensor = forward_ad.make_dual(primal, tangent)
    return dual

"""What is read off whole rows, by what PyTorch can differentiate any number of times."""

from __future__ import annotations

import torch

from sightline.backends.block import numbers
from sightline.backends.derivatives import Base, Part, Slot
from sightline.backends.derivatives.order import Outputs
from sightline.backends.derivatives.rows import Rows, of_pairs, rows_of

_OF_QUERIES, _OF_KEYS = Slot("of queries", "BHN"), Slot("of keys", "BHM")
#: The rows' lse, known: kernels make weights with it, blocks have their own.
KNOWN = Slot("lse", "BHN", smooth=False)


def _rows(part: Part) -> Rows:
    return rows_of(part.problems[0], part.careful)


def _lse(part: Part) -> Outputs:
    return (_rows(part).lse,)


def _entropy(part: Part) -> Outputs:
    return (_rows(part).entropy,)


def _received(part: Part) -> Outputs:
    return (_rows(part).weights.sum(-2),)


def _distance(part: Part) -> Outputs:
    offset = part.others[0]
    assert offset is not None
    i, j = numbers(part.whole[0], part.place)
    steps = (i + offset[:, None, None] - j).abs()
    return ((_rows(part).weights * steps[:, None]).sum(-1),)


def _mass(part: Part) -> Outputs:
    segments, columns = part.others[:2]
    assert segments is not None
    assert columns is not None
    weights = _rows(part).weights
    sums = weights.new_zeros((*weights.shape[:3], columns.shape[0]))
    return (sums.scatter_add(3, segments[:, None, None].expand(weights.shape), weights),)


def _product(part: Part) -> Outputs:
    x, rows = part.others[0], _rows(part)
    assert x is not None
    if part.careful:
        return ((rows.weights[..., None] * of_pairs(rows.seen, x)).sum(3),)
    return (rows.weights @ x,)


def _transposed_product(part: Part) -> Outputs:
    x, rows = part.others[0], _rows(part)
    assert x is not None
    if part.careful:
        met = torch.where(rows.seen[..., None], x[:, :, :, None], 0)
        return ((rows.weights[..., None] * met).sum(2),)
    return (rows.weights.mT @ x,)


#: By name of the readout.
RULES: dict[str, Base] = {
    "lse": Base(_lse, (_OF_QUERIES,), (KNOWN,), dtypes=lambda query, lse: (lse,)),
    "entropy": Base(_entropy, (_OF_QUERIES,), (KNOWN,)),
    "received": Base(_received, (_OF_KEYS,), (KNOWN,)),
    "distance": Base(_distance, (_OF_QUERIES,), (Slot("offset", "B", "B", smooth=False), KNOWN)),
    "mass": Base(
        _mass,
        (Slot("mass", "BHNS"),),
        (Slot("segments", "BM", "B", smooth=False), Slot("columns", "S", smooth=False), KNOWN),
    ),
    "product": Base(_product, (Slot("product", "BHNF"),), (Slot("x", "BHMF", "BH"), KNOWN)),
    "transposed_product": Base(
        _transposed_product, (Slot("product", "BHMF"),), (Slot("x", "BHNF", "BH"), KNOWN)
    ),
}

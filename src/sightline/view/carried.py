"""What a page stores of one layer so that it can compute any weight itself; its size is linear in the text.

The weight is exp(score - lse), with the score by the stages of ``sightline.attention``; everything
that enters the score must be here, in a form that does not grow with N x M.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sightline.reading.errors import InputError
from sightline.view.layers import part
from sightline.view.tensors import TensorStore

if TYPE_CHECKING:
    from sightline.backends.problem import Problem
    from sightline.matrix import AttentionMatrix

TOLERANCE = 1e-3
"""Weights in the page are within this of Python's."""

DENSE_LIMIT = 8 << 20
"""Bytes of a dense mask or bias, per layer, that a page takes when it has no smaller form."""

_MARGIN = 0.6  # of the tolerance: rows that were not measured may be a little less exact
_SAMPLED = 64  # rows of each head that are measured, at most
_RUNS = 4  # key ranges per query that a dense mask may become


def carry(matrix: AttentionMatrix, store: TensorStore, where: str, values: bool = True) -> dict[str, Any]:
    """Put one layer's matrix [1,H,N,M] into ``store``; the result describes it (a Layer of the page).

    Raises:
        InputError: a dense mask or bias is too large and has no smaller form.
    """
    problem = matrix.problem
    _, heads, queries, keys = problem.shape
    lse = matrix.lse[0].float()
    short = fits_fixed_point(matrix)
    tensors = {
        "query": _vectors(problem.query[0].float(), store, short),
        "key": _vectors(problem.key[0].float(), store, short),
        "lse": store.add(lse, "f4"),
    }
    if values and problem.value is not None:
        tensors["value"] = fixed_vectors(problem.value[0].float(), store)
    for name, tensor, numbers in _terms(problem, where):
        tensors[name] = store.add(tensor, numbers)
    return {
        "heads": heads,
        "groups": problem.key.shape[1],
        "n": queries,
        "m": keys,
        "width": problem.query.shape[3],
        "scale": float(problem.scale),
        "softcap": None if problem.softcap is None else float(problem.softcap),
        "offset": keys - queries if problem.offset is None else int(problem.offset.flatten()[0]),
        "tensors": tensors,
    }


def fits_fixed_point(matrix: AttentionMatrix) -> bool:
    """Whether 16-bit fixed-point queries and keys keep the weights within tolerance.

    The error is measured on rows spread over the text: a weight w whose score moves by d becomes
    w·exp(d), because the page divides by the exact lse. A softcap only makes d smaller.
    """
    problem = matrix.problem
    query, key = problem.query[0].float(), problem.key[0].float()
    rows = slice(0, query.shape[1], math.ceil(query.shape[1] / _SAMPLED))
    short_query, short_key = _rounded(query), _rounded(key)
    worst = 0.0
    for head in range(query.shape[0]):
        group = head // problem.group
        now = short_query[head, rows] @ short_key[group].T
        was = query[head, rows] @ key[group].T
        weights = part(matrix, slice(head, head + 1), rows, slice(None))[0]
        error = (weights * (problem.scale * (now - was)).expm1()).abs().max()
        worst = max(worst, float(error) if bool(torch.isfinite(error)) else float("inf"))
    return worst <= _MARGIN * TOLERANCE


def fixed_point(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """([H,N,D] int16, [H,1,D] steps) with ``ints * steps`` near ``vectors``.

    Each channel of each head has a step of its own. For the same bytes that is some ten times more exact
    than float16, whose error grows with the number: the large channels are the ones that decide a score.
    """
    steps = (vectors.abs().amax(1, keepdim=True) / 32767).clamp_min(torch.finfo(torch.float32).tiny)
    return (vectors / steps).round().clamp(-32767, 32767).to(torch.int16), steps


def _rounded(vectors: Tensor) -> Tensor:
    numbers, steps = fixed_point(vectors)
    return numbers * steps


def _vectors(vectors: Tensor, store: TensorStore, short: bool) -> dict[str, Any]:
    return fixed_vectors(vectors, store) if short else store.add(vectors, "f4")


def fixed_vectors(vectors: Tensor, store: TensorStore) -> dict[str, Any]:
    """Vectors [H,N,D] in ``store`` as 16-bit fixed-point numbers with their steps."""
    numbers, steps = fixed_point(vectors)
    return store.add(numbers, "i2") | {"steps": store.add(steps, "f4")}


def _terms(problem: Problem, where: str) -> list[tuple[str, Tensor, str]]:
    """(name, tensor with heads first, kind) of everything else that enters the score."""
    terms: list[tuple[str, Tensor, str]] = []
    if problem.ranges is not None and not _sees_all(problem.ranges[0], problem.shape[3]):
        terms.append(("ranges", problem.ranges[0], "i4"))
    if problem.visible is not None and not bool(problem.visible.all()):
        terms.append(_visible(problem.visible[0], problem.ranges is None, where))
    if problem.bias is not None:
        terms.append(_bias(problem.bias[0].float(), where))
    if problem.slopes is not None:
        terms.append(("slopes", problem.slopes[0].float(), "f4"))
    if problem.table is not None:
        terms.append(("table", problem.table.float(), "f4"))
    if problem.sinks is not None:
        terms.append(("sinks", problem.sinks.float(), "f4"))
    return terms


def _sees_all(ranges: Tensor, keys: int) -> bool:
    return ranges.shape[2] == 1 and bool((ranges[..., 0] <= 0).all()) and bool((ranges[..., 1] >= keys).all())


def _visible(visible: Tensor, may_be_ranges: bool, where: str) -> tuple[str, Tensor, str]:
    """A dense mask [1|H, 1|N, 1|M]: unchanged when linear, as ranges when they are few, else bits."""
    if 1 in visible.shape[1:]:
        return "visible", visible, "u1"
    if may_be_ranges:
        ranges = ranges_of(visible)
        if ranges is not None:
            return "ranges", ranges, "i4"
    _check_size(visible.numel(), f"the mask of {where}", visible.shape)
    return "visible", visible, "u1"


def ranges_of(visible: Tensor) -> Tensor | None:
    """[H, N, R, 2] key ranges equivalent to ``visible`` [H, N, M]; None where R would exceed 4."""
    heads, queries, _ = visible.shape
    edge = torch.zeros(heads, queries, 1, dtype=torch.int8)
    padded = torch.cat([edge, visible.to(torch.int8), edge], -1).diff(dim=-1)
    runs = int((padded == 1).sum(-1).max())
    if runs > _RUNS:
        return None
    ranges = torch.zeros(heads, queries, max(runs, 1), 2, dtype=torch.int32)
    for side, step in enumerate((1, -1)):
        at = torch.nonzero(padded == step)  # sorted by head, query, place
        slot = (padded == step).to(torch.int32).cumsum(-1)[at[:, 0], at[:, 1], at[:, 2]] - 1
        ranges[at[:, 0], at[:, 1], slot.long(), side] = at[:, 2].to(torch.int32)
    return ranges


def _bias(bias: Tensor, where: str) -> tuple[str, Tensor, str]:
    """A bias [1|H, 1|N, 1|M]: unchanged when linear, as its diagonals when they determine it, else dense."""
    if 1 in bias.shape[1:]:
        return "bias", bias, "f4"
    if torch.equal(bias[:, 1:, 1:], bias[:, :-1, :-1]):
        # b[i, j] depends on j - i only: the first column upwards, then the first row.
        return "diagonals", torch.cat([bias[:, 1:, 0].flip(-1), bias[:, 0, :]], -1), "f4"
    _check_size(bias.numel() * 4, f"the bias of {where}", bias.shape)
    return "bias", bias, "f4"


def _check_size(size: int, what: str, shape: torch.Size) -> None:
    if size > DENSE_LIMIT:
        raise InputError(
            f"{what} is dense, {' x '.join(map(str, shape))} ({size / 1e6:.0f} MB): a page carries at most "
            f"{DENSE_LIMIT / 1e6:.0f} MB of it; take a shorter text (--max-tokens)"
        )

"""Readouts of one head that the page asks for: a cell, a row, a column, the stages of a query, all heads."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix, Cells, Grid, cell_of
from sightline.reading.reading import Section
from sightline.view.labels import REPEATS, labels_of
from sightline.view.server.blocks import (
    AT_ONCE,
    Piece,
    over_heads,
    part,
    pieces,
    read,
    work,
)
from sightline.view.server.cancel import Cancel

#: Rows from which the numbers of the atlas are read at most.
SAMPLE = 48
#: Cells along a side of a head's small picture, and rows that it is read from where not from all.
THUMBNAIL, THUMBNAIL_ROWS = 32, 64
_PART = 1 << 21  # weights that are held in plain PyTorch at a time
_HELD = 1 << 24  # weights of whole rows


def cell(matrix: AttentionMatrix, head: int | str, query: int, key: int) -> dict[str, Any]:
    """Weight, score and rank of one pair, and the entropy of its row."""
    weights = row(matrix, head, query, query + 1)
    weight = float(weights[key])
    hidden = math.isnan(weight)
    seen = weights[~weights.isnan()].double()
    only = not isinstance(head, str)
    score = float(matrix.scores(query, key, "masked")[0, 0, 0, 0]) if only and not hidden else None
    return {
        "query": query,
        "key": key,
        "weight": None if hidden else weight,
        "score": score,
        "rank": None if hidden else int((seen > weight).sum()) + 1,
        "of": len(seen),
        "entropy": float(-torch.special.xlogy(seen, seen).sum()),
    }


def row(matrix: AttentionMatrix, head: int | str, start: int, stop: int) -> Tensor:
    """[M]: the mean over the queries start to stop of what they look at; NaN where none of them may."""
    m, width = matrix.shape[3], max(1, _PART // (stop - start))
    means = torch.empty(matrix.shape[1], m)
    for h, left in itertools.product(range(len(means)), range(0, m, width)):
        weights = part(matrix[:, h : h + 1], slice(start, stop), slice(left, min(m, left + width)))
        mean = weights.nan_to_num(nan=0.0).mean(0)
        means[h, left : left + width] = mean.masked_fill(weights.isnan().all(0), math.nan)
    return over_heads(means, head)


def column(matrix: AttentionMatrix, head: int | str, start: int, stop: int, cancel: Cancel) -> Tensor:
    """[N]: each query's sum of weights over the keys start to stop; NaN where it may look at none."""
    sums = torch.empty(matrix.shape[1:3])
    cells = Cells(torch.zeros(1, stop - start, dtype=torch.int64), 1)
    for piece in pieces(matrix, slice(None), stop - start):
        cancel.check()
        values = read(matrix, piece, slice(start, stop), cells, ("cell_sum", "cell_seen"))
        hidden = values["cell_seen"] == 0
        sums[piece.heads, piece.rows] = values["cell_sum"].masked_fill(hidden, math.nan)[0, ..., 0].float()
    return over_heads(sums, head)


def entropy(matrix: AttentionMatrix, cancel: Cancel) -> Tensor:
    """[N]: the entropy of every row of one head, exact: a pass over the matrix that can be stopped."""
    n, m = matrix.shape[2:]
    entropies = torch.empty(n)
    for piece in pieces(matrix, slice(None), m):
        cancel.check()
        entropies[piece.rows] = read(matrix, piece, slice(0, m), None, ("entropy",))["entropy"][0, 0]
    return entropies


def received(matrix: AttentionMatrix, head: int | str, cancel: Cancel) -> Tensor:
    """[M]: the mean over queries of the weight that each key gets; such a pass as well."""
    _, heads, n, m = matrix.shape
    sums = torch.zeros(heads, m, dtype=torch.float64)
    for piece in pieces(matrix, slice(None), m):
        cancel.check()
        sums[piece.heads] += read(matrix, piece, slice(0, m), None, ("received",))["received"][0]
    return over_heads((sums / n).float(), head)


def numbers(section: Section, at: int, cancel: Cancel) -> dict[str, Any]:
    """Means over (a sample of) the rows of each head of a layer, and labels where every row is soon read."""
    matrix = section.layers[at]
    _, h, n, m = matrix.shape
    step = 1 if are_labelled(section, at) else max(1, -(-n // max(4, min(SAMPLE, _HELD // m))))
    rows = slice(step // 2, n, step)
    places = torch.arange(n)[rows] + (m - n)
    every_key, parts = Cells(torch.arange(m)[None], m), []
    heads = max(1, _HELD // (len(places) * m))
    for first in range(0, h, heads):
        cancel.check()
        piece = Piece(slice(first, min(h, first + heads)), rows)
        values = read(matrix, piece, slice(0, m), every_key, ("cell_sum", "entropy"))
        weights = values["cell_sum"][0]
        statistics = {"entropy": values["entropy"][0], "max": weights.amax(2), "first": weights[..., 0]}
        parts.append({name: values.mean(1) for name, values in statistics.items()})
        if section.is_self:
            parts[-1] |= _places(weights, places)
    joined = {name: torch.cat([part[name] for part in parts]).tolist() for name in parts[0]}
    labels: list[str | None] = [None] * h
    if are_labelled(section, at):
        labels, induction = labels_of(section, at, cancel.check)
        joined |= {} if induction is None else {"induction": induction}
    return {"rows": len(places), "of": n, "sampled": step > 1, "heads": joined, "labels": labels}


def are_labelled(section: Section, at: int) -> bool:
    """Whether :func:`numbers` says what each head of a layer does: that takes passes over every row."""
    _, _, n, m = section.layers[at].shape
    return section.is_self and n > 1 and m <= REPEATS


def _places(weights: Tensor, at: Tensor) -> dict[str, Tensor]:
    """Means over the rows of the weights [H,n,M] of queries at the positions ``at`` [n], by head."""
    keys = torch.arange(weights.shape[2], dtype=weights.dtype)
    apart = [weights[:, i] @ (keys - place).abs_() for i, place in enumerate(at.tolist())]
    means = {"distance": torch.stack(apart).mean(0)}
    for name, back in (("itself", 0), ("previous", 1)):
        there = at - back >= 0
        chosen = weights[:, there.nonzero()[:, 0], at[there] - back]
        means[name] = chosen.mean(1) if bool(there.any()) else torch.zeros(len(weights))
    return means


def is_whole(matrix: AttentionMatrix) -> bool:
    """Whether thumbnails are made of all rows, not of 64."""
    return work(matrix, slice(None), matrix.shape[3]) <= AT_ONCE or matrix.shape[2] <= THUMBNAIL_ROWS


def thumbnails(matrix: AttentionMatrix, cancel: Cancel) -> Tensor:
    """[H,h,w]: small pictures, means of up to 32 × 32 cells; see :func:`is_whole`."""
    step = 1 if is_whole(matrix) else -(-matrix.shape[2] // THUMBNAIL_ROWS)
    return pictures(matrix, THUMBNAIL, step, cancel)


def pictures(matrix: AttentionMatrix, side: int, step: int, cancel: Cancel) -> Tensor:
    """[H,h,w]: means of up to ``side`` × ``side`` cells, over every ``step``-th row; NaN where hidden."""
    _, heads, n, m = matrix.shape
    h, w = min(side, n // step), min(side, m)  # in every row of cells there is a row that is read
    rows, fields = slice(step // 2, n, step), ("cell_sum", "cell_seen")
    row_cell, col_cell = (cell_of(size, cells, torch.device("cpu")) for size, cells in ((n, h), (m, w)))
    grid, cells = Grid((1, heads, h, w), fields), Cells(col_cell[None], w)
    for piece in pieces(matrix, rows, m):
        cancel.check()
        grid.join(row_cell[piece.rows], read(matrix, piece, slice(0, m), cells, fields), piece.heads)
    return grid.picture("mean")[0]

"""Readouts of one head that the page asks for: a cell, a row, a column, the stages of a query, all heads."""

from __future__ import annotations

import math
from threading import Event
from typing import Any

import torch
from torch import Tensor

from sightline.backend.readouts import Entropy, Received, View
from sightline.backend.stages import logits, schedule, weights_of
from sightline.matrix import AttentionMatrix
from sightline.view.server.blocks import StoppedError, part

#: Rows from which the numbers of the atlas are read at most.
SAMPLE = 128


def cell(matrix: AttentionMatrix, head: int | str, query: int, key: int) -> dict[str, Any]:
    """Weight, score and rank of one pair, and the entropy of its row."""
    weights = row(matrix, head, query)
    found = float(weights[key])
    hidden = math.isnan(found)
    seen = weights[~weights.isnan()].double()
    only = not isinstance(head, str)
    score = float(matrix.scores(query, key, "masked")[0, 0, 0, 0]) if only and not hidden else None
    return {
        "query": query,
        "key": key,
        "weight": None if hidden else found,
        "score": score,
        "rank": None if hidden else int((seen > found).sum()) + 1,
        "of": len(seen),
        "entropy": float(-torch.special.xlogy(seen, seen).sum()),
    }


def row(matrix: AttentionMatrix, head: int | str, query: int) -> Tensor:
    """[M]: what a query looks at; NaN where it may not."""
    return part(matrix, head, slice(query, query + 1), slice(None))[0].float()


def column(matrix: AttentionMatrix, head: int | str, key: int) -> Tensor:
    """[N]: what looks at a key; NaN where it may not."""
    return part(matrix, head, slice(None), slice(key, key + 1))[:, 0].float()


def stages(matrix: AttentionMatrix, query: int, k: int) -> dict[str, Any]:
    """The k largest weights of a query with their score at each stage."""
    problem = matrix.problem
    names = ["scaled"]
    names += ["capped"] if problem.softcap is not None else []
    biased = problem.bias is not None or problem.slopes is not None or problem.table is not None
    names += [*(["biased"] if biased else []), "masked"]
    found = row(matrix, 0, query)
    seen = int((~found.isnan()).sum())
    order = found.nan_to_num(nan=-1.0).topk(min(k, seen))
    rows = {name: matrix.scores(query, slice(None), name)[0, 0, 0] for name in names}
    keys = [
        {"key": j, "weight": weight, **{name: float(scores[j]) for name, scores in rows.items()}}
        for weight, j in zip(order.values.tolist(), order.indices.tolist(), strict=True)
    ]
    rest = max(0.0, float(found.nansum()) - float(order.values.sum()))
    lse = float(matrix.lse[0, 0, query])
    return {
        "query": query,
        "scale": problem.scale,
        "stages": names,
        "lse": lse if math.isfinite(lse) else None,
        "visible": seen,
        "keys": keys,
        "rest": {"keys": seen - len(keys), "weight": rest},
    }


def sums(matrix: AttentionMatrix, name: str, cancel: Event) -> Tensor:
    """Entropy [N] or received [M] of one head, exact: a pass over the matrix that can be stopped."""
    problem, lse = matrix.problem, matrix.lse
    readout = Entropy(problem) if name == "entropy" else Received(problem)
    for block in schedule(problem):
        if cancel.is_set():
            raise StoppedError
        if block.cols.start < block.cols.stop:
            masked, part_lse = logits(problem, block), lse[block.batch, :, block.rows]
            readout.take(View(block, masked, weights_of(masked, part_lse), part_lse))
    return readout.result()[0, 0].float()


def numbers(matrix: AttentionMatrix, is_self: bool, cancel: Event) -> dict[str, Any]:
    """Means over (a sample of) the rows for each head: entropy, distance, and weights on known places."""
    _, h, n, m = matrix.shape
    step = max(1, -(-n // SAMPLE))
    rows = torch.arange(step // 2, n, step)
    keys, offset = torch.arange(m), m - n
    found: dict[str, list[float]] = {name: [] for name in ("entropy", "max", "first")}
    if is_self:
        found |= {"distance": [], "itself": [], "previous": []}
    for head in range(h):
        if cancel.is_set():
            raise StoppedError
        one = matrix[:, head : head + 1]
        weights = part(one, 0, slice(step // 2, n, step), slice(None)).nan_to_num(nan=0.0)
        found["entropy"].append(float(-torch.special.xlogy(weights, weights).sum(1).mean()))
        found["max"].append(float(weights.amax(1).mean()))
        found["first"].append(float(weights[:, 0].mean()))
        if is_self:
            at = rows + offset
            apart = torch.stack([w @ (keys - p).abs().to(w.dtype) for w, p in zip(weights, at, strict=True)])
            found["distance"].append(float(apart.mean()))
            for name, back in (("itself", 0), ("previous", 1)):
                there = at - back >= 0
                chosen = weights[there].gather(1, (at[there] - back)[:, None])
                found[name].append(float(chosen.mean()) if len(chosen) else 0.0)
    return {"rows": len(rows), "of": n, "sampled": step > 1, "heads": found}

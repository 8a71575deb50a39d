"""Every stage of one query with its vectors: what the steps of the page show (types: web/source/types.js)."""

from __future__ import annotations

import math
from typing import Any

import torch

from sightline.common.vocabulary import LOGITS
from sightline.matrix import AttentionMatrix
from sightline.view.server.readings import row


def stages(matrix: AttentionMatrix, head: int, query: int, k: int) -> dict[str, Any]:
    """The k largest weights of a query of one head with the score at each stage; contexts of all heads.

    Args:
        matrix: [1,H,N,M], all heads of the layer.
    """
    problem = matrix.problem
    one = matrix.select(heads=slice(head, head + 1))
    weights = row(one, 0, query, query + 1)
    seen = int((~weights.isnan()).sum())
    order = weights.nan_to_num(nan=-1.0).topk(min(k, seen))
    keys, rest = order.indices, max(0.0, float(weights.nansum()) - float(order.values.sum()))
    names = [stage for stage in one.stages if stage in LOGITS]
    scores = {name: one.scores(query, slice(None), name)[0, 0, 0].cpu()[keys] for name in names}
    group = head // problem.group
    vectors = {
        "query": problem.query[0, head, query],
        "key": problem.key[0, group][keys.to(problem.key.device)],
    }
    lse = float(one.lse_of(slice(query, query + 1))[0, 0, 0])
    contexts = [_context(matrix, each, query) for each in range(matrix.shape[1])]
    return {
        "query": query,
        "scale": problem.scale,
        "softcap": problem.softcap,
        "stages": names,
        "lse": lse if math.isfinite(lse) else None,
        "visible": seen,
        "sink": None if problem.sinks is None else math.exp(float(problem.sinks[head]) - lse),
        "queryVector": vectors["query"].tolist(),
        "keys": [
            {
                "key": j,
                "weight": float(order.values[at]),
                **{name: float(values[at]) for name, values in scores.items()},
                "vector": vectors["key"][at].tolist(),
                "value": None if problem.value is None else problem.value[0, group, j].tolist(),
            }
            for at, j in enumerate(keys.tolist())
        ],
        "rest": {"keys": seen - len(keys), "weight": rest},
        "context": contexts[head],
        "heads": [{"head": each, "context": context} for each, context in enumerate(contexts)],
    }


def _context(matrix: AttentionMatrix, head: int, query: int) -> list[float] | None:
    """weights · value of one query, over all keys."""
    value = matrix.problem.value
    if value is None:
        return None
    weights = row(matrix.select(heads=slice(head, head + 1)), 0, query, query + 1).nan_to_num(nan=0.0)
    values = value[0, head // matrix.problem.group]
    total = torch.zeros(values.shape[1], dtype=torch.float64)
    for start in range(0, len(values), 1 << 16):  # memory-mapped values need not all be here at once
        part = slice(start, start + (1 << 16))
        total += weights[part].double() @ values[part].cpu().double()
    return total.tolist()

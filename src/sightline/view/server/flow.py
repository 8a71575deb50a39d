"""Rollout and relevance through the layers of a section, for a few targets: vectors by lazy matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.measure.graded import graded_all, rows_times, times_columns
from sightline.reading.reading import Section
from sightline.view.server.cancel import Cancel

#: The share that the residual connection keeps in place, as measure/rolling.py has it.
RESIDUAL = 0.5


def rollout(
    layers: Sequence[AttentionMatrix], direction: str, start: int, stop: int, cancel: Cancel
) -> Tensor:
    """[N]: with Ã = ½ I + ½ (mean over heads), rows summing to 1 (Abnar & Zuidema 2020).

    Direction "to" gives the mean over the queries start to stop of e Ã_L · … · Ã_1, per key; direction "from"
    gives Ã_L · … · Ã_1 e, summed over the keys start to stop, per query.
    """
    _, _, n, _ = layers[0].shape
    to = direction == "to"
    vector = torch.zeros(n, dtype=torch.float64)
    vector[start:stop] = 1 / (stop - start) if to else 1.0
    for matrix in reversed(layers) if to else layers:
        total = RESIDUAL + (1 - RESIDUAL) * _row_sums(matrix)
        if to:
            spread = vector / total
            vector = RESIDUAL * spread + (1 - RESIDUAL) * _through(matrix, spread, True, cancel)
        else:
            vector = (RESIDUAL * vector + (1 - RESIDUAL) * _through(matrix, vector, False, cancel)) / total
    return vector.float()


def relevance(section: Section, direction: str, start: int, stop: int, cancel: Cancel) -> Tensor:
    """[N]: of R = (I + Ā_L) … (I + Ā_1), with Ā = mean_h max(0, w ∘ dL/dw) (Chefer 2021).

    Direction "to" gives the mean of the rows start to stop, per key; "from" the sum of those columns, per
    query.
    """
    to = direction == "to"
    x = torch.zeros(1, len(section.queries), 1, dtype=torch.float64)
    x[:, start:stop] = 1 / (stop - start) if to else 1.0
    layers = graded_all(zip(section.layers, section.gradients, strict=True), unverified=True)
    times = rows_times if to else times_columns
    for layer in reversed(layers) if to else layers:
        x = x + times(layer, x.to(layer.matrix.device), watch=cancel.check).to(x)
    return x[0, :, 0].float()


def _through(matrix: AttentionMatrix, vector: Tensor, transposed: bool, cancel: Cancel) -> Tensor:
    """The mean over heads of Aᵀ x, or A x."""
    _, heads, n, m = matrix.shape
    given = vector.to(matrix.device, torch.float32)[:, None]
    total = torch.zeros(m if transposed else n, dtype=torch.float64)
    for head in range(heads):
        cancel.check()
        one = matrix.select(heads=slice(head, head + 1))
        product = (one.T if transposed else one) @ given.expand(1, 1, -1, -1)
        total += product[0, 0, :, 0].cpu().double()
    return total / heads


def _row_sums(matrix: AttentionMatrix) -> Tensor:
    """[N]: the row sums of the mean over heads: 1 minus the sinks' share, 0 for an empty row."""
    lse = matrix.exact_lse[0].cpu().double()
    sums = torch.isfinite(lse).double()
    if matrix.problem.sinks is not None:
        sums = 1 - (matrix.problem.sinks.cpu().double()[:, None] - lse).exp()
    return sums.mean(0)

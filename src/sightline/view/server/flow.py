"""Rollout and relevance through the layers of a section, for a few targets: vectors by lazy matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.measure.gradients import relevance_step
from sightline.measure.sweep import View
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
    layers = list(zip(section.layers, section.gradients, strict=True))
    for layer in reversed(layers) if to else layers:
        x = x + relevance_step(layer, x, to, _Watched(cancel)).to(x.dtype)
    return x[0, :, 0].float()


class _Watched:
    """A readout of nothing, which lets a pass stop between two blocks."""

    def __init__(self, cancel: Cancel) -> None:
        self.cancel = cancel

    def take(self, view: View) -> None:
        self.cancel.check()

    def result(self) -> None:
        return None


def _through(matrix: AttentionMatrix, vector: Tensor, transposed: bool, cancel: Cancel) -> Tensor:
    """The mean over heads of Aᵀ x, or A x."""
    _, heads, n, m = matrix.shape
    given = vector.to(torch.float32)[:, None]
    found = torch.zeros(m if transposed else n, dtype=torch.float64)
    for head in range(heads):
        cancel.check()
        one = matrix[:, head : head + 1]
        product = (one.T if transposed else one) @ given.expand(1, 1, -1, -1)
        found += product[0, 0, :, 0].double()
    return found / heads


def _row_sums(matrix: AttentionMatrix) -> Tensor:
    """[N]: what the rows of the mean over heads sum to: 1, less what sinks get, 0 for an empty row."""
    lse = matrix.lse[0].double()
    sums = torch.isfinite(lse).double()
    if matrix.problem.sinks is not None:
        sums = 1 - (matrix.problem.sinks.double()[:, None] - lse).exp()
    return sums.mean(0)

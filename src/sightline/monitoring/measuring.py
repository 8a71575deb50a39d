"""What is measured of an attention call: a few numbers for each head."""

from __future__ import annotations

import math
import statistics

import torch
from torch import Tensor

from sightline.matrix import AttentionMatrix
from sightline.measure import max_logit
from sightline.measure.keys import chosen, mass
from sightline.measure.rows import visible
from sightline.monitoring.layer_attention import LayerAttention, without_nan
from sightline.monitoring.limits import Limits
from sightline.tracing.aside import observing
from sightline.tracing.call import AttentionCall

#: The most rows whose context is computed, and the most weights that these rows may have.
_ROWS = 64
_ENTRIES = 1 << 24


def measure_call(
    call: AttentionCall, name: str, limits: Limits, batch_entries: int | None
) -> LayerAttention | None:
    """The numbers of a call whose matrix is known; ``None`` if it is empty."""
    with observing(), torch.autocast(call.matrix.device.type, enabled=False):
        matrix = call.matrix[:batch_entries]
        if not matrix.numel():
            return None
        numbers = _numbers_of_heads(matrix)
    entropy, normalized, logit, sink, sink_by_choice, context = numbers.tolist()
    usual = statistics.median(without_nan(context) or [math.nan])
    dead = [
        head
        for head, (share, length) in enumerate(zip(sink_by_choice, context, strict=True))
        if share >= limits.sink or length < limits.context * usual
    ]
    return LayerAttention(name, call.kind, entropy, normalized, logit, sink, context, dead)


def _numbers_of_heads(matrix: AttentionMatrix) -> Tensor:
    """[6,H] float64: a single tensor, so that a GPU is waited for once.

    Its rows: entropy, normalized entropy, largest logit, weight on the first key, the same over rows that
    have a choice, and length of the context.
    """
    readouts = matrix.readouts("entropy", "max_score")
    counts = visible(matrix).counts
    some, several = counts > 0, counts > 1
    spread = readouts.entropy.clamp(min=0)  # rounding may leave it just below 0 where logits are large
    normalized = spread / counts.clamp(min=2).to(spread.dtype).log()
    largest = (
        readouts.max_score
        if matrix.problem.softcap is None
        else max_logit(matrix, stage="scaled", per_query=True)
    )
    entropy, logit = _row_mean(spread, some), largest.amax((0, 2)).double()
    # Where scores are NaN, the largest depends on the order of comparison.
    logit = torch.where(entropy.isnan() & some.any(2).any(0), math.nan, logit)
    sink = mass(matrix, chosen(matrix, 1))
    return torch.stack(
        (
            entropy,
            _row_mean(normalized, several),
            logit,
            _row_mean(sink, some),
            _row_mean(sink, several),
            _context_length(matrix, some),
        )
    )


def _row_mean(values: Tensor, rows: Tensor) -> Tensor:
    """The mean of [B,H,N] over the rows that count, in all batch entries: [H]; NaN where none does."""
    return values.double().masked_fill(~rows, 0).sum((0, 2)) / rows.sum((0, 2))


def _context_length(matrix: AttentionMatrix, rows: Tensor) -> Tensor:
    """√mean ‖context‖² over some of the rows: [H]."""
    problem = matrix.problem
    assert problem.value is not None
    b, h, n, m = problem.shape
    step = math.ceil(n / min(n, _ROWS, max(4, _ENTRIES // (b * h * m))))
    context = matrix.scores(slice(None, None, step), stage="context")
    squares = context.double().square().sum(-1)
    return _row_mean(squares, rows[:, :, ::step]).sqrt()

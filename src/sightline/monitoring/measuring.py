"""What is measured of an attention call: a few numbers for each head."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sightline.backends.stages import compute_dtype, product
from sightline.matrix import AttentionMatrix
from sightline.measure import max_logit
from sightline.measure.keys import chosen, mass
from sightline.measure.rows import visible
from sightline.tracing.recorder import observing

if TYPE_CHECKING:
    from sightline.monitoring.alarms import Limits
    from sightline.tracing.call import AttentionCall

#: Rows of which the context is computed, and entries of the weights that these may take.
_ROWS = 64
_ENTRIES = 1 << 24


@dataclass(frozen=True)
class LayerAttention:
    """What was measured of one layer, each a list with one number per head.

    A head's rows are those of all measured batch entries together.

    Attributes:
        name: the name of the attention module; "#2" is added for the second call in one pass, and so on.
        kind: "self" or "cross".
        entropy: mean over rows that see a key of -Σ_j w_ij ln w_ij, in nats.
        normalized_entropy: mean over rows that see two keys or more of their entropy divided by
            ln(number of keys that they see): 1 for equal weights.
        max_logit: the largest score of a visible pair, as the softmax sees it; under a soft cap the one
            before the cap. NaN where scores are not finite.
        sink_mass: mean share of weight on the first key (the first that any row of the batch entry sees).
        context: √mean_i ‖Σ_j w_ij v_j‖², over 64 rows or fewer, evenly apart.
        dead: the dead heads. A head is dead if, over rows that see two keys or more, its mean share of
            weight on the first key is at least ``limits.sink`` (it looks at nothing else), or if its context
            is shorter than ``limits.context`` times the median of its layer's heads (it adds nothing). The
            definition is ours; it says that a head does nothing on this batch, not that it never will.
    """

    name: str
    kind: str
    entropy: list[float]
    normalized_entropy: list[float]
    max_logit: list[float]
    sink_mass: list[float]
    context: list[float]
    dead: list[int]

    def summary(self) -> dict[str, float]:
        """The layer in one line: means over heads; the least entropy, the largest logit, counts of heads."""
        return {
            "heads": len(self.entropy),
            "entropy": _mean(self.entropy),
            "entropy_min": min(_numbers(self.entropy), default=math.nan),
            "normalized_entropy": _mean(self.normalized_entropy),
            "max_logit": _largest(self.max_logit),
            "sink_mass": _mean(self.sink_mass),
            "dead_heads": len(self.dead),
        }


#: The names in ``LayerAttention.summary()``.
SUMMARY = ("heads", "entropy", "entropy_min", "normalized_entropy", "max_logit", "sink_mass", "dead_heads")


def measured(
    call: AttentionCall, name: str, limits: Limits, batch_entries: int | None
) -> LayerAttention | None:
    """The numbers of a call whose matrix is known; ``None`` if there is nothing in it."""
    with observing(), torch.autocast(call.matrix.device.type, enabled=False):
        matrix = call.matrix[:batch_entries]
        if not matrix.numel():
            return None
        numbers = _of_heads(matrix)
    entropy, normalized, logit, sink, choosing_sink, context = numbers.tolist()
    usual = statistics.median(_numbers(context) or [math.nan])
    dead = [
        head
        for head, (share, length) in enumerate(zip(choosing_sink, context, strict=True))
        if share >= limits.sink or length < limits.context * usual
    ]
    return LayerAttention(name, call.kind, entropy, normalized, logit, sink, context, dead)


def _of_heads(matrix: AttentionMatrix) -> Tensor:
    """[6,H] float64: one tensor, so that a GPU is waited for once."""
    found = matrix.readouts("entropy", "max_score")
    counts = visible(matrix).counts
    some, several = counts > 0, counts > 1
    spread = found.entropy.clamp(min=0)  # it is 0 up to rounding where logits are large
    normalized = spread / counts.clamp(min=2).to(spread.dtype).log()
    largest = (
        found.max_score
        if matrix.problem.softcap is None
        else max_logit(matrix, stage="scaled", per_query=True)
    )
    entropy, logit = _row_mean(spread, some), largest.amax((0, 2)).double()
    # Where scores are NaN, which one is the largest depends on who compares.
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
    """The mean of [B,H,N] over the rows that count, of all batch entries: [H]; NaN where none does."""
    return values.double().masked_fill(~rows, 0).sum((0, 2)) / rows.sum((0, 2))


def _context_length(matrix: AttentionMatrix, rows: Tensor) -> Tensor:
    """√mean ‖context‖² of some rows: [H]."""
    problem = matrix.problem
    assert problem.value is not None
    b, h, n, m = problem.shape
    step = math.ceil(n / min(n, _ROWS, max(4, _ENTRIES // (b * h * m))))
    weights = matrix[:, :, ::step] if step > 1 else matrix.dense()
    dtype = compute_dtype(problem)
    context = product(problem, weights.to(dtype), problem.value.to(dtype))
    squares = context.double().square().sum(-1)
    return _row_mean(squares, rows[:, :, ::step]).sqrt()


def _numbers(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _mean(values: Sequence[float]) -> float:
    known = _numbers(values)
    return sum(known) / len(known) if known else math.nan


def _largest(values: Sequence[float]) -> float:
    """NaN if one is."""
    return math.nan if any(map(math.isnan, values)) else max(values, default=math.nan)

"""What is known of one layer's attention in one step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LayerAttention:
    """What was measured of one layer: lists with one number per head.

    A head's rows are those of all measured batch entries together.

    Attributes:
        name: the name of the attention module; "#2" is appended for its second call in one pass, and so on.
        kind: "self" or "cross".
        entropy: mean of -Σ_j w_ij ln w_ij, in nats, over rows that see a key.
        normalized_entropy: mean of the entropy divided by ln(number of keys that the row sees), over rows
            that see two keys or more: 1 for equal weights.
        max_logit: the largest score of a visible pair, as the softmax sees it; under a soft cap the one
            before the cap. NaN where scores are not finite.
        sink_mass: mean share of weight on the first key (the first that any row of the batch entry sees).
        context: √mean_i ‖Σ_j w_ij v_j‖², over at most 64 evenly spaced rows.
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
        """The layer in one line: means over heads, the least entropy, the largest logit, counts of heads."""
        return {
            "heads": len(self.entropy),
            "entropy": _mean(self.entropy),
            "entropy_min": min(without_nan(self.entropy), default=math.nan),
            "normalized_entropy": _mean(self.normalized_entropy),
            "max_logit": _largest(self.max_logit),
            "sink_mass": _mean(self.sink_mass),
            "dead_heads": len(self.dead),
        }


#: The names in ``LayerAttention.summary()``.
SUMMARY = ("heads", "entropy", "entropy_min", "normalized_entropy", "max_logit", "sink_mass", "dead_heads")


def without_nan(values: Sequence[float]) -> list[float]:
    """The values that are numbers."""
    return [value for value in values if not math.isnan(value)]


def _mean(values: Sequence[float]) -> float:
    known = without_nan(values)
    return sum(known) / len(known) if known else math.nan


def _largest(values: Sequence[float]) -> float:
    """The largest value; NaN if any is NaN."""
    return math.nan if any(map(math.isnan, values)) else max(values, default=math.nan)

"""When the monitor warns, and which heads it calls dead."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from sightline.common.check import number


@dataclass(frozen=True)
class Limits:
    """When the monitor warns, and which heads it calls dead.

    Attributes:
        max_logit: logits explode where a head's largest score is above this. 100 is what QK-Clip watches
            (Kimi Team 2025, Kimi K2: open agentic intelligence).
        growth: logits also explode where a layer's largest score is more than this many times the median of
            its last 20 logged ones (of at least 5), and more than a quarter of ``max_logit``. Ours.
        entropy: a head has collapsed where its normalized entropy (1 for equal weights) is below this. Zhai
            et al. 2023, Stabilizing Transformer training by preventing attention entropy collapse, give no
            number: ours.
        collapsed: the share of a layer's heads that must have collapsed; single sharp heads are useful. Ours.
        sink: a head is dead from this share of weight on the first key on. Ours.
        context: a head is dead where its context is shorter than this, relative to the median of its layer.
            Ours.

    Raises:
        ValueError: for a number that is not above 0; TypeError: for what is no number.
    """

    max_logit: float = 100.0
    growth: float = 3.0
    entropy: float = 0.05
    collapsed: float = 0.5
    sink: float = 0.98
    context: float = 0.01

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value != math.inf:  # never warns
                object.__setattr__(self, field.name, number(f"limits.{field.name}", value, above=0))

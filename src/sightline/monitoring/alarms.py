"""What is reported at once: entropy that collapses, logits that explode."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sightline.monitoring.layer_attention import LayerAttention
from sightline.monitoring.limits import Limits


class AttentionWarning(UserWarning):
    """Attention is going wrong in training."""


@dataclass(frozen=True)
class Alarm:
    """Something that is going wrong in one layer.

    Attributes:
        kind: "entropy collapse", "exploding logits" or "growing logits".
        layer: the name of the layer's attention module.
        attention: "self" or "cross".
        heads: which of its heads.
        step: the step in which it was seen.
        value: the worst head's number; infinite for scores that are not finite.
        limit: the limit that it passed.
    """

    kind: str
    layer: str
    attention: str
    heads: tuple[int, ...]
    step: int
    value: float
    limit: float

    def __str__(self) -> str:
        heads = ("head " if len(self.heads) == 1 else "heads ") + ", ".join(map(str, self.heads))
        where = f"step {self.step}: {self.kind} in {self.layer or 'the model'} ({self.attention}), {heads}: "
        if self.value == math.inf:
            return f"{where}scores are not finite. {_REMEDIES}"
        return where + _TEXTS[self.kind].format(value=self.value, limit=self.limit)


_REMEDIES = "Known remedies: a lower learning rate or a longer warm-up, QK-norm, σReparam, QK-Clip."
_TEXTS = {
    "entropy collapse": "normalized entropy is {value:.3g}, below {limit:.3g}: rows look at single keys, and "
    "their softmax hardly learns anymore. " + _REMEDIES,
    "exploding logits": "the largest logit is {value:.4g}, above {limit:.4g}. " + _REMEDIES,
    "growing logits": "the largest logit is {value:.4g}, above {limit:.4g} (the running median times "
    "limits.growth). " + _REMEDIES,
}

_REMEMBERED = 20
_ENOUGH = 5
#: A layer warns of the same thing again once its number is this many times worse than at the last warning.
_WORSE = 10.0
#: Normalized entropy below which nothing gets any worse.
_NO_ENTROPY = 1e-6


class Alarms:
    """Compares what was measured with the limits, and warns: once for each layer and kind, then if worse.

    Args:
        limits: when to warn.
        on_alarm: called with each alarm, after its warning.
    """

    def __init__(self, limits: Limits, on_alarm: Callable[[Alarm], object] | None = None) -> None:
        self._limits, self._on_alarm = limits, on_alarm
        self._past: dict[tuple[str, str], deque[float]] = {}
        self._worst: dict[tuple[str, str, str], float] = {}

    def check(self, step: int, layers: Sequence[LayerAttention]) -> None:
        """Warns of whatever is new in one logged step."""
        news = [alarm for layer in layers for alarm in self._of_layer(step, layer) if self._is_new(alarm)]
        for alarm in news:
            warnings.warn(str(alarm), AttentionWarning, stacklevel=2)
            if self._on_alarm is not None:
                self._on_alarm(alarm)

    def _of_layer(self, step: int, layer: LayerAttention) -> Iterator[Alarm]:
        limits, name, kind = self._limits, layer.name, layer.kind
        heads = [h for h, logit in enumerate(layer.max_logit) if not logit <= limits.max_logit]
        if heads:
            value = max(_or_infinite(layer.max_logit[h]) for h in heads)
            yield Alarm("exploding logits", name, kind, tuple(heads), step, value, limits.max_logit)
        growing = self._growth_limit(layer)
        grown = [h for h, logit in enumerate(layer.max_logit) if logit > growing]
        if grown and not heads:
            value = max(layer.max_logit)
            yield Alarm("growing logits", name, kind, tuple(grown), step, value, growing)
        known = [(e, h) for h, e in enumerate(layer.normalized_entropy) if not math.isnan(e)]
        low = [(e, h) for e, h in known if e < limits.entropy]
        if low and len(low) >= limits.collapsed * len(known):
            which = tuple(h for _, h in low)
            yield Alarm("entropy collapse", name, kind, which, step, min(low)[0], limits.entropy)

    def _growth_limit(self, layer: LayerAttention) -> float:
        """The largest logit to expect after the layer's past, to which its present is added."""
        from statistics import median  # slow to import, and rarely needed

        past = self._past.setdefault((layer.name, layer.kind), deque(maxlen=_REMEMBERED))
        usual = median(past) if len(past) >= _ENOUGH else math.inf
        largest = max(layer.max_logit, default=math.nan)
        if math.isfinite(largest):
            past.append(largest)
        return max(self._limits.growth * usual, self._limits.max_logit / 4)

    def _is_new(self, alarm: Alarm) -> bool:
        badness = alarm.value
        if alarm.kind == "entropy collapse":
            badness = 1 / max(alarm.value, _NO_ENTROPY)
        place = (alarm.kind, alarm.layer, alarm.attention)
        before = self._worst.get(place, 0.0)
        if before == math.inf or badness < _WORSE * before:
            return False
        self._worst[place] = badness
        return True


def _or_infinite(logit: float) -> float:
    return math.inf if math.isnan(logit) else logit

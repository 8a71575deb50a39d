"""Watching attention while a model trains.

``watch`` is the entry. ``training`` counts steps and looks at one forward pass of every k-th (``attach``),
``measuring`` reduces each of its calls to a ``layer_attention``, ``alarms`` warns when it passes ``limits``,
``writers`` write it down.
"""

from sightline.monitoring.alarms import Alarm, AttentionWarning
from sightline.monitoring.limits import Limits
from sightline.monitoring.watch import monitor

__all__ = ["Alarm", "AttentionWarning", "Limits", "monitor"]

# ``sightline.monitor`` is the function: what belongs to it can be reached through it, too.
for _each in (Alarm, AttentionWarning, Limits):
    setattr(monitor, _each.__name__, _each)
del _each

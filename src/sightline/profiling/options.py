"""What a profile measures, and on how much of a corpus, whether asked in Python or on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sightline.common.check import flag, integer, shown
from sightline.common.errors import CommandError
from sightline.profiling.statistics import check_measures
from sightline.tracing.choice import Layers


@dataclass(frozen=True)
class ProfileOptions:
    """The options of :func:`sightline.profile` that decide its numbers.

    Attributes:
        measures: names from :data:`sightline.profiling.statistics.STATISTICS`; default: those that cost
            little.
        layers: as for :func:`sightline.trace`; default: all.
        max_tokens: longer documents are cut to this length; default: what the model takes.
        windows: what is cut off becomes further documents instead of being dropped.
        batch: at most this many documents, of similar length, run together. Padding does not count.
        limit: read at most this many documents; default: all.
        unverified: measure attention calls that could not be verified, too.
        labels: say what each head does, judged by some of the documents; default: unless measures are chosen.

    Raises:
        CommandError: for an unknown measure, or a number below 1; TypeError: for what is no number or bool.
    """

    measures: Sequence[str] | None = None
    layers: Layers | None = None
    max_tokens: int | None = None
    windows: bool = False
    batch: int = 16
    limit: int | None = None
    unverified: bool = False
    labels: bool | None = None

    def __post_init__(self) -> None:
        for name, value in (("batch", self.batch), ("limit", self.limit), ("max_tokens", self.max_tokens)):
            if value is None and name != "batch":
                continue
            number = integer(name, value)
            if number < 1:
                raise CommandError(f"{name}: must be 1 or more, got {number}")
            object.__setattr__(self, name, number)
        for name, chosen in (
            ("windows", self.windows),
            ("unverified", self.unverified),
            ("labels", self.labels),
        ):
            if chosen is not None or name != "labels":
                object.__setattr__(self, name, flag(name, chosen))
        if self.measures is not None:
            if isinstance(self.measures, str) or not isinstance(self.measures, Sequence):
                raise TypeError(f"measures: must be a list of names, got {shown(self.measures)}.")
            check_measures(self.measures)

"""The options with every default filled in, for one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sightline.profiling.options import ProfileOptions
from sightline.profiling.profiled_model import ProfiledModel
from sightline.profiling.statistics import Statistic, choose
from sightline.tracing.choice import Layers


@dataclass(frozen=True)
class ProfilePlan:
    """What is measured, and how: :class:`ProfileOptions` without open questions.

    Attributes:
        statistics: what is measured of every head in every document.
        max_tokens: the most tokens of a document; ``None`` for no limit.
        pad: the id that fills up shorter documents.
        layers, windows, batch, limit, unverified, labels: as in the options.
    """

    statistics: tuple[Statistic, ...]
    max_tokens: int | None
    pad: int
    layers: Layers | None
    windows: bool
    batch: int
    limit: int | None
    unverified: bool
    labels: bool

    @classmethod
    def of(cls, options: ProfileOptions, model: ProfiledModel) -> ProfilePlan:
        """The plan for a model."""
        limits = [most for most in (options.max_tokens, model.limit) if most is not None]
        return cls(
            statistics=choose(options.measures),
            max_tokens=min(limits, default=None),
            pad=getattr(model.tokenizer, "pad_token_id", None) or 0,
            layers=options.layers,
            windows=options.windows,
            batch=options.batch,
            limit=options.limit,
            unverified=options.unverified,
            labels=options.measures is None if options.labels is None else options.labels,
        )

    def settings(self) -> dict[str, Any]:
        """Everything in it that the numbers depend on, by the name of the option that sets it."""
        return {
            "measures": [one.name for one in self.statistics],
            "layers": "by a function" if callable(self.layers) else self.layers,
            "max-tokens": self.max_tokens,
            "windows": self.windows,
            "batch": self.batch,
            "limit": self.limit,
            "unverified": self.unverified,
            "labels": self.labels,
        }

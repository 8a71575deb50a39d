"""How far a shard has come and what it has counted: all that must outlive an interruption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sightline.measure import HeadLabel
from sightline.profiling.tally import Call, Tally


class State:
    """Where to go on, and everything counted so far.

    Attributes:
        unit: the first unit that is not done; batch: how many of its batches are.
        documents, tokens: measured. Windows of a document count as documents.
        empty: documents without a token, passed over; cut: documents that lost their end.
        tally: the numbers.
        labels: for each call and head, how often it got each label.
    """

    _COUNTERS = ("documents", "tokens", "empty", "cut")

    def __init__(self) -> None:
        self.unit = self.batch = 0
        self.documents = self.tokens = self.empty = self.cut = 0
        self.tally = Tally()
        self.labels: dict[Call, list[Counter[str]]] = {}

    def count_labels(self, call: Call, found: Sequence[HeadLabel]) -> None:
        """Adds the labels of one document."""
        heads = self.labels.setdefault(call, [Counter() for _ in found])
        for counter, one in zip(heads, found, strict=True):
            counter[one.label] += 1

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return {
            "unit": self.unit,
            "batch": self.batch,
            **{name: getattr(self, name) for name in self._COUNTERS},
            "tally": self.tally.to_json(),
            "labels": [[list(call), [dict(one) for one in heads]] for call, heads in self.labels.items()],
        }

    def add_json(self, given: dict[str, Any]) -> None:
        """Adds what another state counted.

        Raises:
            ValueError, TypeError, KeyError: for what no state is.
        """
        for name in self._COUNTERS:
            setattr(self, name, getattr(self, name) + int(given[name]))
        self.tally.add_json(given["tally"])
        for call, heads in given["labels"]:
            own = self.labels.setdefault(Call(*call), [Counter() for _ in heads])
            for counter, one in zip(own, heads, strict=True):
                counter.update(one)

    @classmethod
    def of_json(cls, given: dict[str, Any]) -> State:
        """The state that ``to_json`` described; raises as ``add_json``."""
        state = cls()
        state.unit, state.batch = int(given["unit"]), int(given["batch"])
        state.add_json(given)
        return state

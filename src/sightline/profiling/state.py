"""How far a shard has come and what it has counted: all that must survive an interruption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sightline.measure import HeadLabel
from sightline.profiling.tally import CallKey, Tally


class State:
    """Where to continue, and everything counted so far.

    Attributes:
        unit: the first unit that is not done.
        batch: how many of its batches are done.
        documents, tokens: how many were measured; windows of a document count as documents.
        empty: how many documents had no token and were passed over.
        cut: how many documents lost their end.
        tally: the numbers.
        labels: for each call and head, how often it got each label.
    """

    _COUNTERS = ("documents", "tokens", "empty", "cut")

    def __init__(self) -> None:
        self.unit = self.batch = 0
        self.documents = self.tokens = self.empty = self.cut = 0
        self.tally = Tally()
        self.labels: dict[CallKey, list[Counter[str]]] = {}

    def count_labels(self, call: CallKey, labels: Sequence[HeadLabel]) -> None:
        """Adds the labels of one document."""
        heads = self.labels.setdefault(call, [Counter() for _ in labels])
        for counter, one in zip(heads, labels, strict=True):
            counter[one.label] += 1

    def to_json(self) -> dict[str, Any]:
        """Everything, as values that JSON can hold."""
        return {
            "unit": self.unit,
            "batch": self.batch,
            **{name: getattr(self, name) for name in self._COUNTERS},
            "tally": self.tally.to_json(),
            "labels": [[list(call), [dict(one) for one in heads]] for call, heads in self.labels.items()],
        }

    def add_json(self, state: dict[str, Any]) -> None:
        """Adds what another state counted, as its ``to_json`` returned it.

        Raises:
            ValueError, TypeError, KeyError: for anything else.
        """
        for name in self._COUNTERS:
            setattr(self, name, getattr(self, name) + int(state[name]))
        self.tally.add_json(state["tally"])
        for call, heads in state["labels"]:
            own = self.labels.setdefault(CallKey(*call), [Counter() for _ in heads])
            for counter, one in zip(own, heads, strict=True):
                counter.update(one)

    @classmethod
    def of_json(cls, saved: dict[str, Any]) -> State:
        """The state that ``to_json`` described; raises as :meth:`add_json` does."""
        state = cls()
        state.unit, state.batch = int(saved["unit"]), int(saved["batch"])
        state.add_json(saved)
        return state

"""The work itself: unit by unit, batch by batch; each attention call is read as it runs, then freed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from sightline.common.errors import CommandError
from sightline.profiling.batches import Batch, DocumentEncoder, Unit, batches, units
from sightline.profiling.checkpoint import Checkpoint
from sightline.profiling.plan import ProfilePlan
from sightline.profiling.profiled_model import ProfiledModel
from sightline.profiling.reader import CallReader
from sightline.profiling.shards import Shards
from sightline.profiling.signals import Interrupted, Patience
from sightline.profiling.state import State
from sightline.tracing import trace


class ProfileProgress(NamedTuple):
    """How far this process has come."""

    documents: int
    tokens: int


class ShardRun:
    """One process's share of a profile.

    Args:
        model: what is called on each batch.
        encode: turns documents into ids.
        plan: what is measured.
        state: where to start; everything that is measured is added to it.
        shards: this process among those that share the units.
        checkpoint: where the state is saved, if anywhere.
        progress: called after each batch.
    """

    def __init__(
        self,
        model: ProfiledModel,
        encode: DocumentEncoder,
        plan: ProfilePlan,
        state: State,
        shards: Shards,
        checkpoint: Checkpoint | None = None,
        progress: Callable[[ProfileProgress], None] | None = None,
    ) -> None:
        self._model, self._encode, self._plan, self._state = model, encode, plan, state
        self._shards, self._checkpoint = shards, checkpoint
        self._progress = progress or (lambda _: None)

    def run(self, documents: Iterable[Any]) -> None:
        """Measures this shard's units, from where the state stands.

        Raises:
            Interrupted: after Ctrl-C or SIGTERM, once the state is saved. CommandError: for what cannot be
            measured, once the state is saved.
        """
        with Patience(self._checkpoint is not None) as patience:
            try:
                for unit in units(documents, self._plan.batch, self._plan.limit):
                    if self._is_due(unit):
                        self._measure_unit(unit, patience)
                    if patience.asked:
                        raise Interrupted
            except (Interrupted, CommandError):
                self._save()
                raise
            self._save()

    def _is_due(self, unit: Unit) -> bool:
        mine = unit.number % self._shards.world == self._shards.rank
        return mine and unit.number >= self._state.unit

    def _save(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.save(self._state)

    def _measure_unit(self, unit: Unit, patience: Patience) -> None:
        state = self._state
        if unit.number > state.unit:
            state.unit, state.batch = unit.number, 0
        encoded = self._encode(unit.documents)
        grouped = batches(encoded, self._plan.batch, self._plan.pad)
        if state.batch < len(grouped):
            labelled = unit.number % len(grouped) if self._plan.labels and is_labelled(unit.number) else None
            self._measure_batches(grouped, labelled, patience)
        state.empty += sum(not one.items for one in encoded)
        state.cut += sum(one.cut for one in encoded)
        state.unit, state.batch = unit.number + 1, 0

    def _measure_batches(self, grouped: list[Batch], labelled: int | None, patience: Patience) -> None:
        """Those of a unit's batches that are not done yet; one document of batch ``labelled`` is labelled."""
        reader = CallReader(self._model, self._plan)
        with _failures_in_one_line(), trace(self._model.module, self._plan.layers, on_call=reader):
            for place in range(self._state.batch, len(grouped)):
                reader.begin(grouped[place], place == labelled)
                self._model(grouped[place])
                self._count(grouped[place], reader)
                if patience.asked:
                    raise Interrupted

    def _count(self, batch: Batch, reader: CallReader) -> None:
        if not reader.numbers:
            raise CommandError(
                "no attention was seen in the model: it has none, or runs it in code of its own "
                "(docs/trace.md says which)"
            )
        state = self._state
        state.tally.add(reader.numbers)
        for call, labels in reader.labels.items():
            state.count_labels(call, labels)
        state.batch += 1
        state.documents += batch.documents
        state.tokens += batch.tokens
        self._progress(ProfileProgress(state.documents, state.tokens))
        if self._checkpoint is not None:
            self._checkpoint.save_if_due(state)


@contextmanager
def _failures_in_one_line() -> Iterator[None]:
    """Turns what a model raises on a corpus into a CommandError of one line."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "sightline.trace: no attention was seen")
        try:
            yield
        except (CommandError, KeyboardInterrupt):
            raise
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            known = line.startswith("layers: ")
            raise CommandError(line if known else f"the model fails on this corpus: {line}") from error


def is_labelled(unit: int) -> bool:
    """Whether a document of this unit is labelled, which costs more than all measures together.

    True for the first 8 units, and for 4 more each time the number of units doubles: some 50 documents of a
    million, from all over the corpus.
    """
    return unit & ((1 << max(0, unit.bit_length() - 3)) - 1) == 0

"""The work itself: unit by unit, batch by batch, each attention call read as it runs and freed."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from sightline.common.errors import CommandError
from sightline.measure import head_labels
from sightline.profiling.batches import Batch, Encoder, Unit, batches, units
from sightline.profiling.checkpoint import Checkpoint
from sightline.profiling.reads import Reads
from sightline.profiling.shards import Shards
from sightline.profiling.signals import Interrupted, Patience
from sightline.profiling.state import State
from sightline.profiling.statistics import Statistic
from sightline.profiling.subject import Subject
from sightline.profiling.tally import Call, Column
from sightline.tracing import trace
from sightline.tracing.call import AttentionCall
from sightline.tracing.choice import Layers


class Progress(NamedTuple):
    """How far this process has come."""

    documents: int
    tokens: int


@dataclass(frozen=True)
class Wish:
    """What is measured, and how.

    Attributes:
        statistics: of every head in every document.
        layers: as for :func:`sightline.trace`.
        batch: documents that run together at most.
        limit: documents that are read at most.
        pad: the id that fills up shorter documents.
        unverified: measure calls that were not verified, too.
        labels: say what heads do, by some of the documents.
    """

    statistics: tuple[Statistic, ...]
    layers: Layers | None = None
    batch: int = 16
    limit: int | None = None
    pad: int = 0
    unverified: bool = False
    labels: bool = False


@dataclass
class Work:
    """One process's share of a profile."""

    subject: Subject
    encode: Encoder
    wish: Wish
    shards: Shards = field(default_factory=Shards)
    checkpoint: Checkpoint | None = None
    progress: Callable[[Progress], None] = lambda progress: None
    state: State = field(default_factory=State)

    def run(self, documents: Iterable[Any]) -> None:
        """Measures this shard's units from where the state stands.

        Raises:
            Interrupted: after Ctrl-C or SIGTERM, when the state is saved; CommandError: for what cannot be
            measured, likewise.
        """
        with Patience(self.checkpoint is not None) as patience:
            try:
                for unit in units(documents, self.wish.batch, self.wish.limit):
                    if unit.number >= self.state.unit and unit.number % self.shards.world == self.shards.rank:
                        self._unit(unit, patience)
                    if patience.asked:
                        raise Interrupted
            except (Interrupted, CommandError):
                self._save()
                raise
            self._save()

    def _save(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint.save(self.state)

    def _unit(self, unit: Unit, patience: Patience) -> None:
        state = self.state
        if unit.number > state.unit:
            state.unit, state.batch = unit.number, 0
        encoded = self.encode(unit.documents)
        found = batches(encoded, self.wish.batch, self.wish.pad)
        if state.batch < len(found):
            labelled = self.wish.labels and is_labelled(unit.number)
            self._batches(found, unit.number % len(found) if labelled else None, patience)
        state.empty += sum(not one.items for one in encoded)
        state.cut += sum(one.cut for one in encoded)
        state.unit, state.batch = unit.number + 1, 0

    def _batches(self, found: list[Batch], labelled: int | None, patience: Patience) -> None:
        """The batches of a unit that are not done yet; one of batch ``labelled`` says what heads do."""
        reader = _Reader(self.subject, self.wish)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "sightline.trace: no attention was seen")
            try:
                with trace(self.subject.model, self.wish.layers, on_call=reader):
                    for place in range(self.state.batch, len(found)):
                        batch = found[place]
                        reader.begin(batch, place == labelled)
                        self.subject(batch)
                        self._count(batch, reader)
                        if patience.asked:
                            raise Interrupted
            except (CommandError, KeyboardInterrupt):
                raise
            except (ValueError, TypeError, RuntimeError, IndexError) as error:
                line = (str(error).strip().splitlines() or [type(error).__name__])[0]
                known = line.startswith("layers: ")
                raise CommandError(line if known else f"the model fails on this corpus: {line}") from error

    def _count(self, batch: Batch, reader: _Reader) -> None:
        if not reader.found:
            raise CommandError(
                "no attention was seen in the model: it has none, or runs it in code of its own "
                "(docs/trace.md says which)"
            )
        self.state.tally.add(reader.found)
        for call, labels in reader.labels.items():
            self.state.count_labels(call, labels)
        self.state.batch += 1
        self.state.documents += batch.documents
        self.state.tokens += batch.tokens
        self.progress(Progress(self.state.documents, self.state.tokens))
        if self.checkpoint is not None:
            self.checkpoint.save_if_due(self.state)


def is_labelled(unit: int) -> bool:
    """Whether a document of this unit is asked what its heads do, which costs more than all measures.

    So the first 8 units are, and of twice as many units 4 more: some 50 documents of a million, from all over
    the corpus.
    """
    return unit & ((1 << max(0, unit.bit_length() - 3)) - 1) == 0


class _Reader:
    """Takes the calls of a traced model as they run, and keeps a few numbers of each."""

    def __init__(self, subject: Subject, wish: Wish) -> None:
        self._subject, self._wish = subject, wish
        self._statistics = {
            kind: [one for one in wish.statistics if kind in one.kinds] for kind in ("self", "cross")
        }
        self._needs = {
            kind: tuple(dict.fromkeys(need for one in some for need in one.needs))
            for kind, some in self._statistics.items()
        }

    def begin(self, batch: Batch, labelled: bool) -> None:
        """The next calls are of this batch."""
        self._batch, self._labelled = batch, labelled
        self._turns: Counter[tuple[str, str]] = Counter()
        self.found: dict[Column, Tensor] = {}
        self.labels: dict[Call, list[Any]] = {}

    def __call__(self, call: AttentionCall) -> None:
        name = self._subject.named(call, self._turns)
        if not call.verified and not self._wish.unverified:
            raise CommandError(
                f"{call.name}: not verified: {call.reason}. Its weights may not be those of the model; "
                "--unverified measures them all the same, --layers leaves them out"
            )
        if call.shape is None:
            return  # unverified, and nothing could be made of it
        reads = self._reads(call)
        for one in self._statistics[call.kind]:
            values = one.compute(reads)
            if values is not None:
                self.found[Column(name, one.name)] = values
        if self._labelled and call.kind == "self":
            # Of the longest document, which has no padding.
            tokens = None if reads.tokens is None else reads.tokens[-1:]
            self.labels[name] = head_labels(reads.matrix[-1:], tokens)

    def _reads(self, call: AttentionCall) -> Reads:
        """The call's matrix, without padding."""
        ids, real = self._subject.queries(call, self._batch)
        b, _, n, m = call.matrix.problem.shape
        padded = not bool(real.all())
        if (b, n) != ids.shape and padded:
            raise CommandError(
                f"{call.name}: {b} x {n} queries for {ids.shape[0]} documents of {ids.shape[1]} tokens: "
                "which of them are padding is not known; use --batch 1"
            )
        tokens = ids if call.kind == "self" and ids.shape == (b, m) else None
        return Reads(call.matrix, real if padded else None, tokens, self._needs[call.kind])

"""What takes the attention calls of a traced model as they run, and keeps a few numbers of each."""

from __future__ import annotations

from collections import Counter

from torch import Tensor

from sightline.common.devices import device_of
from sightline.common.errors import CommandError
from sightline.measure import HeadLabel, head_labels
from sightline.profiling.batches import Batch
from sightline.profiling.plan import ProfilePlan
from sightline.profiling.profiled_model import ProfiledModel
from sightline.profiling.reads import Reads
from sightline.profiling.tally import CallKey, MeasureKey
from sightline.tracing.call import AttentionCall

_KINDS = ("self", "cross")


class CallReader:
    """Receives each call of the current batch.

    Attributes:
        numbers: [B,H] for each measure of each call.
        labels: a label for each head, for each call of a batch with a labelled document.
    """

    def __init__(self, model: ProfiledModel, plan: ProfilePlan) -> None:
        self._model, self._plan = model, plan
        self._statistics = {kind: [one for one in plan.statistics if kind in one.kinds] for kind in _KINDS}
        self._needs = {
            kind: tuple(dict.fromkeys(need for one in some for need in one.needs))
            for kind, some in self._statistics.items()
        }

    def begin(self, batch: Batch, labelled: bool) -> None:
        """The next calls belong to this batch."""
        self._batch, self._labelled = batch.to(device_of(self._model.module)), labelled
        self._turns: Counter[tuple[str, str]] = Counter()
        self.numbers: dict[MeasureKey, Tensor] = {}
        self.labels: dict[CallKey, list[HeadLabel]] = {}

    def __call__(self, call: AttentionCall) -> None:
        """Reads one call.

        Raises:
            CommandError: if it is not verified and has to be, or if its padding is not known.
        """
        key = self._model.call_key(call, self._turns)
        if not call.verified and not self._plan.unverified:
            raise CommandError(
                f"{call.name}: not verified: {call.reason}. Its weights may not be those of the model; "
                "--unverified measures them all the same, --layers leaves them out"
            )
        if call.shape is None:
            return  # unverified, and without a matrix
        reads = self._reads(call)
        for statistic in self._statistics[call.kind]:
            values = statistic.compute(reads)
            if values is not None:
                self.numbers[MeasureKey(key, statistic.name)] = values.cpu()
        if self._labelled and call.kind == "self":
            # The longest document, which has no padding.
            tokens = None if reads.tokens is None else reads.tokens[-1:]
            self.labels[key] = head_labels(reads.matrix[-1:], tokens)

    def _reads(self, call: AttentionCall) -> Reads:
        """The call's matrix, without padding."""
        ids, real = self._model.queries(call, self._batch)
        b, _, n, m = call.matrix.problem.shape
        padded = not bool(real.all())
        if (b, n) != ids.shape and padded:
            raise CommandError(
                f"{call.name}: {b} x {n} queries for {ids.shape[0]} documents of {ids.shape[1]} tokens: "
                "which of them are padding is not known; use --batch 1"
            )
        tokens = ids if call.kind == "self" and ids.shape == (b, m) else None
        return Reads(call.matrix, real if padded else None, tokens, self._needs[call.kind])

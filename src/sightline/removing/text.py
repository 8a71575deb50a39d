"""A model on one input: as it is, and without one thing after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from sightline.common.check import shown
from sightline.interventions.intervention import Intervention
from sightline.matrix import AttentionMatrix
from sightline.removing.question import Given
from sightline.removing.removals import Removal, RemoveEach, Site
from sightline.removing.replaying import Replay
from sightline.removing.scope import Scope
from sightline.removing.stacking import batch_of, entry, stacked
from sightline.tracing import trace
from sightline.tracing.call import AttentionCall
from sightline.tracing.choice import LayerChoice, Layers

#: Tokens that are computed together.
_TOGETHER = 2048
_COPIES = 64
#: By how much two ways of computing one metric may differ, relative to it and to 1.
_AGREES = 1e-4

#: All of a layer.
_ALL = Removal(0, None)

Metric = Callable[[Any], Any]


class Text:
    """One input, its sites and its metric.

    Args:
        model: the model.
        given: the input.
        metric: makes a number of an output.
        layers: the layers that are asked about.
    """

    def __init__(self, model: Any, given: Given, metric: Metric, layers: Layers | None) -> None:
        self._model, self._given, self._metric = model, given, metric
        self._layers = layers
        self.sites: list[Site] = []
        #: For each site: [H], the mean of the largest weights; [M], the mean weight that keys get of others.
        self.confidence: list[Tensor] = []
        self.received: list[Tensor] = []
        self._matrices: list[AttentionMatrix] = []
        self._batch = batch_of(given)
        self._stacks: bool | None = None
        self._replays: bool | None = None

    # --- the whole model --------------------------------------------------------------------------

    def look(self, keep: bool) -> None:
        """Runs the model once, and reads what its weights suggest; ``keep``: the matrices are kept for edges.

        Raises:
            ValueError: where attention cannot be explained, or there is none.
        """
        modules = self._model.named_modules() if isinstance(self._model, nn.Module) else ()
        choice = LayerChoice(self._layers, [name for name, _ in modules])
        seen: set[tuple[str, str]] = set()

        def note(call: AttentionCall) -> None:
            if (call.name, call.kind) in seen or not choice.takes(call.name, call.kind):
                return
            seen.add((call.name, call.kind))
            if not call.verified:
                raise ValueError(f"{call.name or 'this call'}: cannot be changed: {call.reason}.")
            self._read(call)
            if keep:
                self._matrices.append(call.matrix)

        with torch.no_grad(), trace(self._model, on_call=note):
            self._model(*self._given.args, **self._given.kwargs)
        missing = choice.missing()
        if missing is not None:
            raise ValueError(missing)
        if not self.sites:
            raise ValueError("model: no attention ran, so there is nothing to remove.")

    def _read(self, call: AttentionCall) -> None:
        matrix = call.matrix
        b, h, n, m = matrix.shape
        self.sites.append(Site(call.name, call.kind, h, n, m))
        self.confidence.append(matrix.max()[0].double().mean((0, 2)).cpu())
        received = matrix.received().double()
        others = n
        if n == m and call.kind == "self":
            received = received - matrix.diagonal().double()
            others = n - 1
        self.received.append(received.mean((0, 1)).cpu() / max(1, others))

    def suggested(self, scope: Scope) -> Tensor:
        """What the weights suggest of all that is asked about."""
        found = torch.full(scope.shape, math.nan, dtype=torch.float64)
        if scope.of == "heads":
            for place, confidence in enumerate(self.confidence):
                found[place, : len(confidence)] = confidence
        elif scope.of == "layers":
            found[:] = torch.stack([confidence.mean() for confidence in self.confidence])
        elif scope.of == "tokens":
            found[:] = torch.stack([self.received[place] for place in scope.token_sites()]).mean(0)
        else:
            for removal in scope.removals:
                assert removal.site is not None
                assert removal.query is not None
                assert removal.key is not None
                heads = (
                    slice(None) if removal.heads is None else slice(removal.heads[0], removal.heads[0] + 1)
                )
                row = self._matrices[removal.site][:, heads, removal.query : removal.query + 1]
                found[removal.place] = row[..., removal.key].double().mean()
            self._matrices.clear()
        return found

    def baseline(self) -> float:
        """The metric of the whole model; what its layers give is kept."""
        self._replay = Replay(self._model, [site.name for site in self.sites])
        self._replay.batch = self._batch or 1
        with torch.no_grad(), self._replay.recording():
            output = self._model(*self._given.args, **self._given.kwargs)
        self._baseline = self._number(output)
        return self._baseline

    def _number(self, output: Any) -> float:
        with torch.no_grad():
            value = self._metric(output)
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"metric: must give one number, got {shown(value)}.")
        return float(value)

    # --- removals ---------------------------------------------------------------------------------

    def copies(self, how: str | Tensor) -> int:
        """How many removals run together."""
        if self._batch is None or (isinstance(how, str) and how == "uniform"):
            return 1
        tokens = self._batch * max(site.queries for site in self.sites)
        count = max(1, min(_COPIES, _TOGETHER // max(1, tokens)))
        return count if count > 1 and self._takes_copies() else 1

    def _takes_copies(self) -> bool:
        """Whether copies in one batch give what they give alone, one of them without its first layer."""
        if self._stacks is None:
            sites = [self.sites[0]]
            alone = self._together([_ALL], sites, "zero", None)
            try:
                found = self._together([_ALL, None], sites, "zero", None)
                self._stacks = all(map(self._agrees, found, (*alone, self._baseline)))
            except (RuntimeError, ValueError, TypeError, IndexError):
                self._stacks = False
        return self._stacks

    def _agrees(self, one: float, other: float) -> bool:
        return abs(one - other) <= _AGREES * (1 + abs(other))

    def metrics(self, removals: Sequence[Removal], sites: Sequence[Site], how: str | Tensor) -> list[float]:
        """The metric without each of the removals, which are all in the same sites."""
        first = sites[0].name if len(sites) == 1 else None
        if first is not None and self._replay.saves(first) and self._takes_replay(sites):
            return self._together(removals, sites, how, first)
        return self._together(removals, sites, how, None)

    def _takes_replay(self, sites: Sequence[Site]) -> bool:
        """Whether layers that give what they gave come to the same: found out where some can, first."""
        if self._replays is None:
            alone = self._together([_ALL], sites, "zero", None)
            try:
                found = self._together([_ALL], sites, "zero", sites[0].name)
                self._replays = all(map(self._agrees, found, alone))
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
                self._replays = False
        return self._replays

    def _together(
        self, removals: Sequence[Removal | None], sites: Sequence[Site], how: str | Tensor, after: str | None
    ) -> list[float]:
        count, batch = len(removals), self._batch or 1
        given = stacked(self._given, batch, count) if count > 1 else self._given
        replayed = nullcontext() if after is None else self._replay.before(after, count)
        with torch.no_grad(), replayed, Intervention(self._model) as change:
            for kind in ("self", "cross"):
                there = [site for site in sites if site.kind == kind]
                if there:
                    change.add(RemoveEach(there, removals, batch, how))
            output = self._model(*given.args, **given.kwargs)
        return [self._number(entry(output, batch, count, place)) for place in range(count)]

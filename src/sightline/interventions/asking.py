"""The work behind ``sightline.effects``: one thing after another is removed, the metric is asked again."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.common.check import integer, shown
from sightline.interventions.intervention import Intervention
from sightline.interventions.question import Given
from sightline.interventions.removals import Removal, RemoveEach, Site
from sightline.interventions.replaying import Replay
from sightline.interventions.result import Effects
from sightline.interventions.stacking import batch_of, entry, stacked
from sightline.matrix import AttentionMatrix
from sightline.tracing import trace
from sightline.tracing.call import AttentionCall
from sightline.tracing.choice import LayerChoice, Layers

#: Tokens that are computed together.
_TOGETHER = 2048
_COPIES = 64
#: By how much two ways of computing one metric may differ, relative to it and to 1.
_AGREES = 1e-4
#: Seconds between two times that what is done is written.
_PAUSE = 2.0

#: All of a layer.
_ALL = Removal(0, None)

Metric = Callable[[Any], Any]
#: Takes how many removals are done, and how many there are.
Progress = Callable[[int, int], None]


class Asked:
    """What is asked about: its removals and the places of their results.

    Args:
        of: "heads", "layers", "tokens" or "edges".
        sites: the layers.
        edges: (layer, head, query, key) of edges.
    """

    def __init__(self, of: str, sites: list[Site], edges: Sequence[tuple[Any, ...]]) -> None:
        self.of, self.sites = of, sites
        self.labels: list[str] = []
        most = max(site.heads for site in sites)
        self.shape: tuple[int, ...] = (len(sites),)
        self.removals: list[Removal] = []
        if of == "heads":
            self.shape = (len(sites), most)
            self.removals = [
                Removal(place * most + head, place, [head])
                for place, site in enumerate(sites)
                for head in range(site.heads)
            ]
        elif of == "layers":
            self.removals = [Removal(place, place) for place in range(len(sites))]
        elif of == "tokens":
            self._tokens()
        else:
            self._edges(edges)

    def _tokens(self) -> None:
        count = self.sites[0].keys
        self.shape = (count,)
        self.removals = [Removal(token, None, None, None, token) for token in range(count)]

    def token_sites(self) -> list[int]:
        """The sites whose keys are the tokens of the first one: a decoder's own tokens are others."""
        first = self.sites[0]
        decoders = {_stack_of(site.name) for site in self.sites if site.kind == "cross"}
        return [
            place
            for place, site in enumerate(self.sites)
            if site.keys == first.keys and (site.kind == "cross" or _stack_of(site.name) not in decoders)
        ]

    def _edges(self, edges: Sequence[tuple[Any, ...]]) -> None:
        self.shape = (len(edges),)
        for place, edge in enumerate(edges):
            if not isinstance(edge, (tuple, list)) or len(edge) != 4:
                raise TypeError(f"edges: takes (layer, head, query, key), got {shown(edge)}.")
            layer, head, query, key = edge
            at = self._site(layer)
            site = self.sites[at]
            heads = None if head is None else [_within("head", head, site.heads)]
            self.removals.append(
                Removal(
                    place, at, heads, _within("query", query, site.queries), _within("key", key, site.keys)
                )
            )
            named = "all heads" if heads is None else f"head {heads[0]}"
            self.labels.append(f"{site.name}, {named}, {query} -> {key}")

    def _site(self, layer: Any) -> int:
        if isinstance(layer, str):
            for place, site in enumerate(self.sites):
                if site.name == layer or site.name.startswith(f"{layer}."):
                    return place
            raise ValueError(f"edges: no attention ran in {layer!r}.")
        return _within("layer", layer, len(self.sites))


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

    def suggested(self, asked: Asked) -> Tensor:
        """What the weights suggest of all that is asked about."""
        found = torch.full(asked.shape, math.nan, dtype=torch.float64)
        if asked.of == "heads":
            for place, confidence in enumerate(self.confidence):
                found[place, : len(confidence)] = confidence
        elif asked.of == "layers":
            found[:] = torch.stack([confidence.mean() for confidence in self.confidence])
        elif asked.of == "tokens":
            found[:] = torch.stack([self.received[place] for place in asked.token_sites()]).mean(0)
        else:
            for removal in asked.removals:
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


def _within(name: str, value: Any, size: int) -> int:
    return integer(f"edges: {name}", value, -size, size - 1) % size


def _stack_of(name: str) -> str:
    """The name up to the first number: of the list of layers that it belongs to."""
    parts = name.split(".")
    numbered = next((at for at, part in enumerate(parts) if part.isdigit()), len(parts))
    return ".".join(parts[:numbered])


def ask(
    model: Any,
    texts: Sequence[Given],
    metrics: Sequence[Metric],
    of: str,
    how: str | Tensor,
    edges: Sequence[tuple[Any, ...]],
    layers: Layers | None,
    path: Path | None,
    progress: Progress,
    tokens: Sequence[str],
    about: str,
) -> Effects:
    """See :func:`sightline.effects`."""
    if isinstance(model, nn.Module) and model.training:
        raise ValueError("model: is training, so dropout would pass for effects. Call model.eval() first.")
    result: Effects | None = None
    done, total, written = 0, 0, time.monotonic()
    try:
        for number, given in enumerate(texts):
            text = Text(model, given, metrics[number], layers)
            text.look(keep=of == "edges")
            asked = Asked(of, text.sites, edges)
            baseline = text.baseline()
            if result is None:
                result = _begun(asked, len(texts), of, how, tokens, about)
                if path is not None and path.exists():
                    result = _resumed(result, path)
                total = len(asked.removals) * len(texts)
            _note_text(result, number, baseline, asked, text)
            for removals, sites in _batches(asked, text, result.changes[number].flatten(), how):
                changes = result.changes[number].view(-1)
                for removal, found in zip(removals, text.metrics(removals, sites, how), strict=True):
                    changes[removal.place] = found - baseline
                done += len(removals)
                progress(min(done, total), total)
                if path is not None and time.monotonic() - written > _PAUSE:
                    result.complete = False
                    result.save(path)
                    written = time.monotonic()
    except KeyboardInterrupt:
        if result is None:
            raise
        result.complete = False
        warnings.warn("sightline.effects: was interrupted; what is not done is NaN.", stacklevel=3)
    else:
        assert result is not None
        result.complete = True
    if path is not None:
        result.save(path)
    return result


def _batches(asked: Asked, text: Text, changes: Tensor, how: str | Tensor) -> Any:
    """What is left to be done, in portions that run together: (removals, sites)."""
    left = [removal for removal in asked.removals if math.isnan(changes[removal.place])]
    if not left:
        return
    count = text.copies(how)
    if asked.of == "tokens":
        sites = [asked.sites[place] for place in asked.token_sites()]
        for start in range(0, len(left), count):
            yield left[start : start + count], sites
        return
    # The last layers first: whether layers may be replayed is found out where it costs least.
    for place in sorted({removal.site or 0 for removal in left}, reverse=True):
        here = [removal for removal in left if removal.site == place]
        for start in range(0, len(here), count):
            yield here[start : start + count], [asked.sites[place]]


def _begun(
    asked: Asked, texts: int, of: str, how: str | Tensor, tokens: Sequence[str], about: str
) -> Effects:
    if texts > 1 and of == "tokens":
        raise ValueError("inputs: tokens of several texts have nothing in common. Call it for each text.")
    labels = list(asked.labels)
    if of == "tokens":
        count = asked.shape[0]
        labels = list(tokens) if len(tokens) == count else [f"token {place}" for place in range(count)]
    empty = torch.full((texts, *asked.shape), math.nan, dtype=torch.float64)
    return Effects(
        of=of,
        how=how if isinstance(how, str) else "given",
        layers=_names(asked.sites),
        changes=empty,
        baselines=torch.full((texts,), math.nan, dtype=torch.float64),
        suggested=torch.full(asked.shape, math.nan, dtype=torch.float64),
        labels=labels,
        about=about,
        complete=False,
    )


def _names(sites: Sequence[Site]) -> list[str]:
    names = [site.name for site in sites]
    return [f"{s.name} ({s.kind})" if names.count(s.name) > 1 else s.name for s in sites]


def _note_text(result: Effects, number: int, baseline: float, asked: Asked, text: Text) -> None:
    """Baseline and suggestions of one text; errors where it does not go with what is there."""
    if _names(asked.sites) != result.layers or result.changes.shape[1:] != asked.shape:
        raise ValueError(
            f"inputs: text {number} runs through other layers or heads than the first: {len(asked.sites)} "
            f"layers and {list(asked.shape)}, not {len(result.layers)} and {list(result.changes.shape[1:])}."
        )
    known = float(result.baselines[number])
    if not math.isnan(known) and abs(known - baseline) > 1e-3 * (1 + abs(known)):
        raise ValueError(
            f"path: the metric of text {number} was {known:.6g} when the file was written and is "
            f"{baseline:.6g} now: another model, input or metric. Take another path."
        )
    result.baselines[number] = baseline
    own = text.suggested(asked)
    before = result.suggested.nan_to_num(0) if number else torch.zeros_like(own)
    result.suggested = (before * number + own) / (number + 1)


def _resumed(fresh: Effects, path: Path) -> Effects:
    """What a file holds of the same question."""
    known = Effects.load(path)
    same = (known.of, known.how, known.layers) == (fresh.of, fresh.how, fresh.layers)
    if not same or known.changes.shape != fresh.changes.shape:
        raise ValueError(
            f"path: {path} holds the effects of {known.of} ({known.how}), {list(known.changes.shape)}, and "
            f"{fresh.of} ({fresh.how}), {list(fresh.changes.shape)}, were asked for. Take another path."
        )
    return known

"""All removals of all texts, one batch after another; what is done is kept."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sightline.removing.question import Given
from sightline.removing.removals import Removal, Site
from sightline.removing.result import Effects
from sightline.removing.scope import Scope
from sightline.removing.text import Metric, Text
from sightline.tracing.choice import Layers

#: Seconds between two times that what is done is written.
_PAUSE = 2.0

#: Takes how many removals are done, and how many there are.
Progress = Callable[[int, int], None]


class Asked(NamedTuple):
    """What is asked of a model; see :func:`sightline.effects`.

    Attributes:
        texts: the inputs, and for each its metric.
    """

    model: Any
    texts: Sequence[Given]
    metrics: Sequence[Metric]
    of: str
    how: str | Tensor
    edges: Sequence[tuple[Any, ...]]
    layers: Layers | None
    path: Path | None
    tokens: Sequence[str]
    about: str


def answer(asked: Asked, progress: Progress) -> Effects:
    """The effects that are asked for; after Ctrl-C those that are known."""
    if isinstance(asked.model, nn.Module) and asked.model.training:
        raise ValueError("model: is training, so dropout would pass for effects. Call model.eval() first.")
    work = _Work(asked, progress)
    try:
        for number in range(len(asked.texts)):
            work.take(number)
    except KeyboardInterrupt:
        if work.result is None:
            raise
        warnings.warn("sightline.effects: was interrupted; what is not done is NaN.", stacklevel=3)
        return work.ended(complete=False)
    return work.ended(complete=True)


class _Work:
    """The texts, one after another."""

    def __init__(self, asked: Asked, progress: Progress) -> None:
        self.asked, self._progress = asked, progress
        self.result: Effects | None = None
        self._done, self._total, self._written = 0, 0, time.monotonic()

    def take(self, number: int) -> None:
        """All removals of one text."""
        asked = self.asked
        text = Text(asked.model, asked.texts[number], asked.metrics[number], asked.layers)
        text.look(keep=asked.of == "edges")
        scope = Scope(asked.of, text.sites, asked.edges)
        baseline = text.baseline()
        if self.result is None:
            self.result = _begun(scope, asked)
            self._total = len(scope.removals) * len(asked.texts)
        _note_text(self.result, number, baseline, scope, text)
        changes = self.result.changes[number].view(-1)
        for removals, sites in _batches(scope, text, changes, asked.how):
            for removal, found in zip(removals, text.metrics(removals, sites, asked.how), strict=True):
                changes[removal.place] = found - baseline
            self._done += len(removals)
            self._progress(min(self._done, self._total), self._total)
            if time.monotonic() - self._written > _PAUSE:
                self.ended(complete=False)

    def ended(self, complete: bool) -> Effects:
        """The result as it is now, written to its file."""
        assert self.result is not None
        self.result.complete = complete
        if self.asked.path is not None:
            self.result.save(self.asked.path)
        self._written = time.monotonic()
        return self.result


def _batches(
    scope: Scope, text: Text, changes: Tensor, how: str | Tensor
) -> Iterator[tuple[list[Removal], list[Site]]]:
    """What is left to be done, in portions that run together: (removals, sites)."""
    left = [removal for removal in scope.removals if math.isnan(changes[removal.place])]
    if not left:
        return
    count = text.copies(how)
    if scope.of == "tokens":
        sites = [scope.sites[place] for place in scope.token_sites()]
        for start in range(0, len(left), count):
            yield left[start : start + count], sites
        return
    # The last layers first: whether layers may be replayed is found out where it costs least.
    for place in sorted({removal.site or 0 for removal in left}, reverse=True):
        here = [removal for removal in left if removal.site == place]
        for start in range(0, len(here), count):
            yield here[start : start + count], [scope.sites[place]]


def _begun(scope: Scope, asked: Asked) -> Effects:
    """Room for all results, with what the file holds already."""
    texts, of = len(asked.texts), asked.of
    if texts > 1 and of == "tokens":
        raise ValueError("inputs: tokens of several texts have nothing in common. Call it for each text.")
    labels = list(scope.labels)
    if of == "tokens":
        count = scope.shape[0]
        named = len(asked.tokens) == count
        labels = list(asked.tokens) if named else [f"token {place}" for place in range(count)]
    empty = torch.full((texts, *scope.shape), math.nan, dtype=torch.float64)
    fresh = Effects(
        of=of,
        how=asked.how if isinstance(asked.how, str) else "given",
        layers=_names(scope.sites),
        changes=empty,
        baselines=torch.full((texts,), math.nan, dtype=torch.float64),
        suggested=torch.full(scope.shape, math.nan, dtype=torch.float64),
        labels=labels,
        about=asked.about,
        complete=False,
    )
    if asked.path is None or not asked.path.exists():
        return fresh
    return _resumed(fresh, asked.path)


def _names(sites: Sequence[Site]) -> list[str]:
    names = [site.name for site in sites]
    return [f"{s.name} ({s.kind})" if names.count(s.name) > 1 else s.name for s in sites]


def _note_text(result: Effects, number: int, baseline: float, scope: Scope, text: Text) -> None:
    """Baseline and suggestions of one text; errors where it does not go with what is there."""
    if _names(scope.sites) != result.layers or result.changes.shape[1:] != scope.shape:
        raise ValueError(
            f"inputs: text {number} runs through other layers or heads than the first: {len(scope.sites)} "
            f"layers and {list(scope.shape)}, not {len(result.layers)} and {list(result.changes.shape[1:])}."
        )
    known = float(result.baselines[number])
    if not math.isnan(known) and abs(known - baseline) > 1e-3 * (1 + abs(known)):
        raise ValueError(
            f"path: the metric of text {number} was {known:.6g} when the file was written and is "
            f"{baseline:.6g} now: another model, input or metric. Take another path."
        )
    result.baselines[number] = baseline
    own = text.suggested(scope)
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

"""What is removed, one thing for each copy of an input in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.backends import Problem
from sightline.interventions.changes import Change, put
from sightline.interventions.looking import Looking
from sightline.interventions.masking import uniform
from sightline.positions import key_ranges
from sightline.tracing.choice import LayerChoice

Places = list[int] | None


class Site(NamedTuple):
    """Where attention ran.

    Attributes:
        name, kind: of the layer, as a trace has them.
        heads, queries, keys: how many there are.
    """

    name: str
    kind: str
    heads: int
    queries: int
    keys: int


class Removal(NamedTuple):
    """One thing to be removed.

    Attributes:
        place: its flat place in the result.
        site: the layer, counted from 0; ``None`` for all of those that are asked about.
        heads: which heads; ``None`` for all.
        query: which query; ``None`` for all of them.
        key: which key; ``None`` for all of them.
    """

    place: int
    site: int | None
    heads: Places = None
    query: int | None = None
    key: int | None = None


class Sites(LayerChoice):
    """Some sites, exactly."""

    def __init__(self, sites: Sequence[Site]) -> None:
        super().__init__(None, ())
        self._sites = {(site.name, site.kind) for site in sites}

    def takes(self, name: str, kind: str) -> bool:
        """Whether it is one of them."""
        return (name, kind) in self._sites


class RemoveEach(Change):
    """Removes one thing in each copy of the input.

    Args:
        sites: where; of one kind.
        removals: one for each copy, in order; ``None`` for a copy that stays as it is.
        batch: how many entries a copy has.
        how: what a removed head gives.
    """

    def __init__(
        self, sites: Sequence[Site], removals: Sequence[Removal | None], batch: int, how: str | Tensor
    ) -> None:
        super().__init__("effects", Sites(sites), None, None)
        self._removals = [(place, removal) for place, removal in enumerate(removals) if removal is not None]
        self._batch, self._how = batch, how
        self._themselves = sites[0].kind == "self"

    def _change(self, looking: Looking, heads: Places, batch: Places, met: Any) -> None:
        if isinstance(self._how, str) and self._how == "zero":
            looking.change(None, lambda problem, here: self._hidden(problem))
        elif isinstance(self._how, str) and self._how == "uniform":
            for _, removal in self._removals:  # it stands alone
                looking.apart(removal.heads, lambda problem, here: uniform(problem))
        else:
            looking.after.append(self._replaced)
            looking.unexplained = "contexts were replaced"

    def _entries(self, place: int) -> slice:
        return slice(place * self._batch, (place + 1) * self._batch)

    def _replaced(self, context: Tensor) -> Tensor:
        how = self._how
        own = context.clone()
        for place, removal in self._removals:
            part = context[self._entries(place)]
            if isinstance(how, Tensor):
                own[self._entries(place)] = put(part, removal.heads, None, None, [], how, "how")
            else:
                chosen = slice(None) if removal.heads is None else removal.heads
                own[self._entries(place), chosen] = part[:, chosen].mean(2, keepdim=True)
        return own

    def _hidden(self, problem: Problem) -> Problem:
        """Each copy does not see what is removed from it."""
        b, h, n, m = problem.shape
        narrow = [removal for _, removal in self._removals if removal.key is not None]
        sizes = (
            b,
            1 if all(removal.heads is None for _, removal in self._removals) else h,
            n if narrow else 1,
            2 if narrow else 1,
        )
        ranges = torch.empty(*sizes, 2, dtype=torch.int32)
        ranges[...] = torch.tensor([(0, m), (m, m)][: sizes[3]], dtype=torch.int32)
        for place, removal in self._removals:
            heads = slice(None) if removal.heads is None else removal.heads
            part = ranges[self._entries(place)]
            if removal.key is None:
                part[:, heads] = m
                continue
            others = torch.tensor([(0, removal.key), (removal.key + 1, m)], dtype=torch.int32)
            if removal.query is not None:
                part[:, heads, removal.query] = others
            else:
                own = part[:, heads, removal.key].clone() if self._themselves else None
                part[:, heads] = others
                if own is not None:
                    part[:, heads, removal.key] = own  # a token goes on seeing itself
        ranges = ranges.to(problem.query.device)
        if problem.ranges is not None:
            ranges = key_ranges.intersect(problem.ranges, ranges)
        return replace(problem, ranges=ranges.contiguous())

"""What the terminal view and the JSON file show, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.reading.reading import Reading
from sightline.view.choice import ChosenQuery, Focus, choose, focus, ordinary
from sightline.view.layers import LayerReadouts, Units, by_token
from sightline.view.words import by_word

_MOST_SPECIAL = 64  # special keys that a row may rank above ordinary ones before top pairs are missed


@dataclass(frozen=True)
class Selection:
    """What the user asked for; ``None`` where Sightline chooses."""

    section: str | None = None
    layer: int | None = None
    head: int | None = None
    query: str | None = None
    top: int = 8
    words: bool = False
    special: bool = False


@dataclass(frozen=True)
class TopWeight:
    """One weight: ``query`` looks at ``key`` in one head."""

    query: int
    key: int
    weight: float
    layer: int
    head: int


@dataclass(frozen=True)
class Summary:
    """Everything that is shown of a reading.

    Attributes:
        reading: the reading itself.
        selection: what was asked for.
        units: the chosen section, in tokens or words.
        readouts: one per layer.
        focus: how selective each head is, and what special units take.
        choice: the layer, head and query shown.
        row: [M], the weights of the chosen query.
        keys: the keys that the query looks at most, descending; special ones only when asked for.
        pairs: the largest weights, of the chosen head when the user named one, else of every head.
    """

    reading: Reading
    selection: Selection
    units: Units
    readouts: tuple[LayerReadouts, ...]
    focus: Focus
    choice: ChosenQuery
    row: Tensor
    keys: tuple[int, ...]
    pairs: tuple[TopWeight, ...]

    @property
    def entropy(self) -> list[list[float]]:
        """[L][H]: the mean entropy over queries, nats."""
        return [readout.entropy.double().mean(1).tolist() for readout in self.readouts]

    @property
    def distance(self) -> list[list[float]] | None:
        """[L][H]: the mean distance over queries; None for cross-attention, where it means nothing."""
        if not self.units.is_self:
            return None
        return [readout.distance.double().mean(1).tolist() for readout in self.readouts]

    @property
    def special_share(self) -> float:
        """The share of the chosen head's weight that special keys take, a mean over ordinary queries."""
        special = self.focus.special[self.choice.layer][self.choice.head]
        wanted = ordinary(self.units.queries)
        return float(special[wanted].mean() if bool(wanted.any()) else special.mean())


def units_of(reading: Reading, section: str | None, words: bool) -> Units:
    """The section of that name, in tokens or merged into words."""
    chosen = reading.section(section)
    return by_word(chosen) if words else by_token(chosen)


def summarize(reading: Reading, selection: Selection) -> Summary:
    """Compute what is shown.

    Raises:
        InputError: the selection names a section, layer, head or query that is not there.
    """
    reading = reading.cpu()
    units = units_of(reading, selection.section, selection.words)
    specials = sum(token.special for token in units.keys)
    depth = selection.top + (0 if selection.special else min(specials, _MOST_SPECIAL))
    readouts = tuple(layer.readouts(depth) for layer in units.layers)
    spread = focus(units, readouts)
    choice = choose(units, spread, selection.layer, selection.head, selection.query)
    row = units.layers[choice.layer].row(choice.head, choice.query)
    allowed = torch.ones(len(units.keys), dtype=torch.bool) if selection.special else ordinary(units.keys)
    keys = _top_keys(row, allowed, selection.top)
    pairs = _top_pairs(units, readouts, selection, choice)
    return Summary(reading, selection, units, readouts, spread, choice, row, keys, pairs)


def _top_keys(row: Tensor, allowed: Tensor, top: int) -> tuple[int, ...]:
    seen = torch.where(allowed, row, -1.0)
    order = seen.argsort(descending=True, stable=True)[:top].tolist()
    return tuple(key for key in order if float(seen[key]) > 0)


def _top_pairs(
    units: Units, readouts: Sequence[LayerReadouts], selection: Selection, choice: ChosenQuery
) -> tuple[TopWeight, ...]:
    """The largest weights over the heads in question, found among each row's largest."""
    queries, keys = ordinary(units.queries), ordinary(units.keys)
    pairs: list[TopWeight] = []
    for at, readout in enumerate(readouts):
        if selection.layer is not None and at != choice.layer:
            continue
        weights = readout.weights.clone()
        places = readout.keys.clamp_min(0)
        if not selection.special:
            weights = weights * keys[places] * queries[:, None]
        if selection.head is not None:
            only = torch.zeros(len(weights), dtype=torch.bool)
            only[choice.head] = True
            weights = weights * only[:, None, None]
        count = min(selection.top, weights.numel())
        for flat in weights.flatten().topk(count).indices.tolist():
            head, rest = divmod(flat, weights.shape[1] * weights.shape[2])
            query, slot = divmod(rest, weights.shape[2])
            weight = float(weights[head, query, slot])
            if weight > 0:
                pairs.append(TopWeight(query, int(places[head, query, slot]), weight, at, head))
    pairs.sort(key=lambda pair: (-pair.weight, pair.layer, pair.head, pair.query, pair.key))
    return tuple(pairs[: selection.top])

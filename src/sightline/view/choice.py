"""Which layer, head and query to show: what the user asked for, or the most telling ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.reading.errors import InputError
from sightline.reading.tokens import Token
from sightline.view.layers import LayerReadouts, UnitLayer, Units

_TINY = 1e-9


@dataclass(frozen=True)
class Focus:
    """How each head of a section spreads its attention over ordinary tokens.

    Attributes:
        gain: [L][H,N], nats: the weight on ordinary units beyond the query's neighbours, times how much
            sharper than uniform it is there. Heads that only look one place back are common and tell little.
        special: [L][H,N], the weight that special units take.
    """

    gain: list[Tensor]
    special: list[Tensor]

    def of_heads(self, queries: Tensor) -> list[Tensor]:
        """[L][H]: the mean gain over ``queries``, a bool [N]."""
        return [gain[:, queries].mean(1) if bool(queries.any()) else gain.mean(1) for gain in self.gain]


def ordinary(tokens: Sequence[Token]) -> Tensor:
    """[N] bool: which are not special."""
    return torch.tensor([not token.special for token in tokens])


def focus(units: Units, readouts: Sequence[LayerReadouts]) -> Focus:
    """Measure every head, from its entropy and a few columns: memory stays linear in the text."""
    specials = [token.index for token in units.keys if token.special]
    visible = _visible_ordinary(units)
    gains, shares = [], []
    for layer, readout in zip(units.layers, readouts, strict=True):
        gain, share = _gain(layer, readout, specials, visible, units)
        gains.append(gain)
        shares.append(share)
    return Focus(gains, shares)


def _gain(
    layer: UnitLayer, readout: LayerReadouts, specials: Sequence[int], visible: Tensor, units: Units
) -> tuple[Tensor, Tensor]:
    """([H,N], [H,N]): gain and special weight of one layer."""
    inside = readout.entropy.double()  # becomes -sum w ln w over the units that are left
    special = torch.zeros_like(inside)
    for key in specials:
        column = layer.column(key).double()
        special += column
        inside = inside + torch.xlogy(column, column)
    mass = 1 - special
    if units.is_self:
        # Special neighbours are removed already; the ordinary ones of the three are removed here.
        near = layer.nearby().double() * _ordinary_neighbours(units)[:, None]
        mass = mass - near.sum(0)
        inside = inside + torch.xlogy(near, near).sum(0)
    mass = mass.clamp(0, 1)
    entropy = inside / mass.clamp_min(_TINY) + mass.clamp_min(_TINY).log()
    gain = torch.where(mass > 1e-4, mass * (visible.clamp_min(1).log() - entropy), 0.0)
    return gain.clamp_min(0), special


def _visible_ordinary(units: Units) -> Tensor:
    """[N]: how many ordinary units, itself and its neighbours aside, a query can look at (windows aside)."""
    keys = ordinary(units.keys).double()
    if not units.is_self:
        return keys.sum().expand(len(units.queries))
    near = _ordinary_neighbours(units).double()
    if units.is_causal:
        return keys.cumsum(0) - near[:2].sum(0)
    return keys.sum() - near.sum(0)


def _ordinary_neighbours(units: Units) -> Tensor:
    """[3,N] bool: whether the unit before, the unit itself, and the unit after are there and ordinary."""
    padded = torch.nn.functional.pad(ordinary(units.keys), (1, 1))
    return torch.stack([padded[:-2], padded[1:-1], padded[2:]])


@dataclass(frozen=True)
class ChosenQuery:
    """A layer, a head and a query, and the reasons for choosing them in words."""

    layer: int
    head: int
    query: int
    head_reason: str
    query_reason: str


def choose(
    units: Units, spread: Focus, layer: int | None, head: int | None, query: str | None
) -> ChosenQuery:
    """Take what the user named; fill in the rest with the most telling.

    Raises:
        InputError: layer or head out of range, or no such query; the message lists what there is.
    """
    layers = range(len(units.layers)) if layer is None else [_within("--layer", layer, len(units.layers))]
    if head is not None:
        head = _within("--head", head, min(units.layers[at].heads for at in layers))
    asked = find_query(units, query) if query is not None else None
    wanted = ordinary(units.queries)
    if asked is not None:
        wanted = torch.zeros_like(wanted)
        wanted[asked[0]] = True
    gains = spread.of_heads(wanted)
    best = max(
        ((at, h) for at in layers for h in (range(units.layers[at].heads) if head is None else [head])),
        key=lambda place: float(gains[place[0]][place[1]]),
    )
    if layer is not None and head is not None:
        why = "as asked"
    else:
        scope = " for this query" if asked else ""
        beyond = " beyond neighbours" if units.is_self else ""
        where = f"{units.unit}s{beyond}{scope}"
        why = f"chosen: looks most selectively at {where}; --layer and --head choose another"
    if asked is None:
        gain = spread.gain[best[0]][best[1]]
        worded = [not token.special and any(map(str.isalnum, token.text)) for token in units.queries]
        gain = torch.where(torch.tensor(worded), gain, gain - gain.max() - 1)
        why_query = f"chosen: the most selective {units.unit} of this head; --query chooses another"
        asked = int(gain.argmax()), why_query
    return ChosenQuery(best[0], best[1], asked[0], why, asked[1])


def find_query(units: Units, query: str, option: str = "--query") -> tuple[int, str]:
    """(index, a remark) of the query that ``query`` names: a word, a token, or ``#3``.

    Args:
        units: the section's.
        query: what was given.
        option: as which option.

    Raises:
        InputError: there is none; the message lists near matches.
    """
    tokens = units.queries
    if re.fullmatch(r"#-?\d+", query):
        return _within(f"{option} #", int(query[1:]), len(tokens)), "as asked"
    hits = _spelled(tokens, query)
    if hits:
        return hits[0], _others(units, hits)
    words = _words(tokens)
    for places, word in words:
        if _same(word, query) and len(places) > 1:
            more = f"#{places[0]} to #{places[-1]}"
            return places[0], f"{word!r} is {len(places)} tokens, {more}: the first is shown; --words merges"
    raise InputError(f"{option} {query!r}: {_nearest(tokens, [word for _, word in words], query)}")


def _spelled(tokens: Sequence[Token], query: str) -> list[int]:
    """Places of units spelled like ``query``: exactly, else ignoring case, else ignoring punctuation too.

    A piece inside a longer word (the "on" of "season") does not count when the word itself is asked for.
    """
    whole = [len(places) == 1 for places, _ in _words(tokens) for _ in places]
    for same in (str.__eq__, lambda a, b: a.casefold() == b.casefold(), _same):
        hits = [token.index for token in tokens if same(token.text, query)]
        if hits:
            return [at for at in hits if whole[at]] or hits
    return []


def _same(text: str, query: str) -> bool:
    bare = re.compile(r"^\W+|\W+$")
    left, right = bare.sub("", text).casefold(), bare.sub("", query).casefold()
    return left == right and bool(left)


def _words(tokens: Sequence[Token]) -> list[tuple[list[int], str]]:
    """(indices, spelling) of each word."""
    words: list[tuple[list[int], str]] = []
    before = None
    for token in tokens:
        if token.word == before:
            places, text = words[-1]
            places.append(token.index)
            words[-1] = places, text + token.text.removeprefix("##")
        else:
            words.append(([token.index], token.text))
        before = token.word
    return words


def _others(units: Units, hits: Sequence[int]) -> str:
    if len(hits) == 1:
        return "as asked"
    rest = " ".join(f"#{at}" for at in hits[1:9]) + (" ..." if len(hits) > 9 else "")
    return f"the first of {len(hits)} times it occurs; also {rest}"


def _nearest(tokens: Sequence[Token], words: Sequence[str], query: str) -> str:
    names = list(dict.fromkeys([*words, *(token.text for token in tokens)]))
    folded = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(query.casefold(), list(folded), n=5, cutoff=0.5)
    near = [folded[name] for name in close]
    if near:
        return "not in the text; near it: " + ", ".join(near)
    shown = " ".join(f"{token.text}(#{token.index})" for token in tokens[:12])
    return f"not in the text; its tokens are {shown}" + (" ..." if len(tokens) > 12 else "")


def _within(name: str, value: int, count: int) -> int:
    if not -count <= value < count:
        raise InputError(f"{name} {value} is out of range: 0 to {count - 1}".replace("# ", "#"))
    return value % count

"""What a head does, in a word: read off what is left of its weight after the sinks have theirs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.common.check import integer, kind, share
from sightline.matrix import AttentionMatrix
from sightline.measure.catalogue import catalogued
from sightline.measure.diagonal import at_offset
from sightline.measure.keys import Keys, at, chosen, one_by_one
from sightline.measure.repeats import looked_up, repeats
from sightline.measure.rows import counted, visible
from sightline.measure.sinks import learned
from sightline.measure.sources import CLARK_2019, OLSSON_2022, VOITA_2019
from sightline.measure.subject import Measurable, measured
from sightline.positions.align import Align


@dataclass(frozen=True)
class Thresholds:
    """From which score on a head gets a label.

    These numbers are ours; no paper settles them.

    Attributes:
        sink: share of the weight on sinks from which on nothing else is looked at.
        pattern: share of the rest, for "previous token", "next token", "current token", "positional",
            "induction" and "duplicate token".
        broad: entropy of the rest as a share of the largest possible.
        local: share of the rest within ``radius`` positions.
        radius: for "local".
        offsets: "positional" looks at steps of up to so many positions.
        rows: how many queries a pattern must have been possible for.

    Raises:
        ValueError: for shares outside [0, 1], or negative numbers; TypeError: for what is no number.

    Example:
        >>> import sightline.measure
        >>> sightline.measure.Thresholds(broad=0.5).sink
        0.9
    """

    sink: float = 0.9
    pattern: float = 0.4
    broad: float = 0.85
    local: float = 0.6
    radius: int = 5
    offsets: int = 8
    rows: int = 3

    def __post_init__(self) -> None:
        for name in ("sink", "pattern", "broad", "local"):
            object.__setattr__(self, name, share(name, getattr(self, name)))
        for name, least in (("radius", 0), ("offsets", 0), ("rows", 1)):
            object.__setattr__(self, name, integer(name, getattr(self, name), least))


@dataclass(frozen=True)
class HeadLabel:
    """What a head does.

    Attributes:
        label: "sink", "previous token", "next token", "current token", "positional", "induction",
            "duplicate token", "broad", "local", "mixed", or "empty" for a head without a row to look at.
        score: what earned it; for "mixed" the largest pattern score.
        scores: every score by name. "sink" is a share of all weight; the others are shares of what the sinks
            leave. NaN where the text gave no occasion.
        offset: the step with the largest share, of those looked at.

    Example:
        >>> import sightline.measure, torch
        >>> A = sightline.AttentionMatrix(*torch.zeros(2, 1, 1, 9, 2))       # all weights equal
        >>> head = sightline.measure.head_labels(A)[0]
        >>> head.label, round(head.score, 3)
        ('broad', 1.0)
    """

    label: str
    score: float
    scores: dict[str, float]
    offset: int


_NEAREST = {-1: "previous token", 0: "current token", 1: "next token"}


@catalogued(
    formula="Σ_i pattern_i / Σ_i (1 - sink_i), pattern_i the weight on a pattern's keys that are not sinks",
    unit="share of what the sinks leave",
    range=(0, 1),
    source=f"{VOITA_2019} (positional heads); {OLSSON_2022}; {CLARK_2019} (broad heads); the thresholds are "
    "ours",
    caveat="A label names where a head looks on this text; on another it may look elsewhere, and what it "
    "writes is not looked at. Induction asks for text that repeats.",
)
def head_labels(
    A: Measurable,
    tokens: Tensor | None = None,
    *,
    sinks: Keys = 1,
    thresholds: Thresholds | None = None,
    align: Align = "bottom-right",
    queries: Tensor | None = None,
    unverified: bool = False,
) -> list[HeadLabel]:
    """What each head does, in a word, with the score behind it.

    Sinks drown everything else, so they come out first; "sink" goes to heads that leave next to nothing.
    Of the patterns that pass their threshold the largest names the head; without one, "broad", then
    "local", else "mixed". Cost: one pass for the entropy, one more with ``tokens``; the rest is linear in N.

    Args:
        A: AttentionMatrix [B,H,N,M] of self-attention, or a traced call; batches count together.
        tokens: [M] or [B,M] token ids, for "induction" and "duplicate token". Default: those two are not
            looked for.
        sinks: how many first keys, or which keys, are sinks, as for :func:`sink_mass`; learned sinks always
            are. Default: the first key.
        thresholds: Default: see :class:`Thresholds`.

    Returns:
        One :class:`HeadLabel` per head. Fully masked rows do not count.

    Example:
        >>> import sightline.measure, torch
        >>> key = torch.eye(8)[None, None]
        >>> query = key.roll(1, dims=2) * 99                     # each query asks for the key before
        >>> A = sightline.AttentionMatrix(query, key, mask=sightline.causal())
        >>> sightline.measure.head_labels(A)[0].label
        'previous token'
    """
    limits = Thresholds() if thresholds is None else thresholds
    kind("thresholds", limits, Thresholds, "Thresholds")
    matrix = measured(A, unverified).matrix
    rest = _Rest(matrix, sinks, queries, limits.rows)
    farthest = sum(matrix.sizes[2:])  # no step leads beyond
    reach = min(max(limits.radius, limits.offsets, 1), max(farthest, 1))
    steps = {offset: rest.at(offset, align) for offset in range(-reach, reach + 1)}
    shares = {o: rest.share(*step) for o, step in steps.items() if abs(o) <= max(limits.offsets, 1)}
    scores = {"sink": rest.sink_share()} | _by_offset(shares)
    if tokens is not None:
        both = repeats(matrix, tokens, align, without=rest.sinks)
        scores["induction"] = rest.share(*both.induction)
        scores["duplicate token"] = rest.share(*both.duplicate)
    near = [weight for offset, (weight, _) in steps.items() if abs(offset) <= limits.radius]
    scores["local"] = rest.share(sum(near, torch.zeros_like(rest.left)), rest.rows)
    scores["broad"] = rest.breadth()
    strongest = torch.stack([share.nan_to_num(-1) for share in shares.values()]).argmax(0)
    offsets = [list(shares)[int(place)] for place in strongest]
    return [
        _label({name: float(score[head]) for name, score in scores.items()}, offsets[head], limits)
        for head in range(matrix.sizes[1])
    ]


def _by_offset(shares: dict[int, Tensor]) -> dict[str, Tensor]:
    """The scores of the nearest steps by name, and the best of all farther ones as "positional"."""
    scores = {name: shares[offset] for offset, name in _NEAREST.items()}
    farther = [share.nan_to_num(-1) for offset, share in shares.items() if offset not in _NEAREST]
    if farther:
        best = torch.stack(farther).amax(0)
        scores["positional"] = best.masked_fill(best < 0, math.nan)
    return scores


class _Rest:
    """What the sinks leave of each row; every share is a sum over batches and rows, [H]."""

    def __init__(self, matrix: AttentionMatrix, sinks: Keys, queries: Tensor | None, least: int) -> None:
        seen = visible(matrix)
        self.matrix, self.least = matrix, least
        self.sinks = chosen(matrix, sinks, "sinks")
        self.rows = counted(matrix, seen.counts > 0, queries)
        self.sink = learned(matrix)
        # What the rows keep without the sinks: entropy, and how many keys.
        self.entropy, self.others = matrix.entropy(), seen.counts
        for key in one_by_one(matrix, self.sinks):
            weight = at(matrix, key)
            self.sink = self.sink + weight
            self.entropy = self.entropy + torch.xlogy(weight, weight)
            self.others = self.others - matrix.visible_pairs(key).long()
        self.left = (1 - self.sink).clamp(min=0)

    def sink_share(self) -> Tensor:
        """The mean weight on sinks."""
        return self._total(self.sink, self.rows) / self.rows.sum((0, 2))

    def at(self, offset: int, align: Align) -> tuple[Tensor, Tensor]:
        """(the weight at a step from the query [B,H,N], whether there is a key that is not a sink)."""
        weight, key = at_offset(self.matrix, offset, align)
        sink = self.sinks.expand(key.shape[0], -1) if key.shape[0] > 1 else self.sinks
        sink = looked_up(sink, key[:, 0].expand(sink.shape[0], -1))[:, None]
        there = (key >= 0) & ~sink
        return weight.masked_fill(~there, 0), there

    def share(self, weight: Tensor, there: Tensor) -> Tensor:
        """The share of what is left that a pattern takes, over the rows where it is possible."""
        rows = self.rows & there
        whole = self._total(self.left, rows)
        enough = (rows.sum((0, 2)) >= self.least) & (whole > 1e-6)
        return torch.where(enough, self._total(weight, rows) / whole, math.nan)

    def breadth(self) -> Tensor:
        """The entropy of what is left, as a share of the largest possible."""
        rows = self.rows & (self.others > 1)
        # With w' = w / left, left · H(w') = H(w) + left · ln(left).
        entropy = self.entropy + torch.xlogy(self.left, self.left)
        most = self._total(self.left * self.others.clamp(min=1).to(self.left.dtype).log(), rows)
        return torch.where(most > 1e-6, self._total(entropy, rows) / most, math.nan)

    def _total(self, values: Tensor, rows: Tensor) -> Tensor:
        return values.double().masked_fill(~rows, 0).sum((0, 2))


def _label(scores: dict[str, float], offset: int, limits: Thresholds) -> HeadLabel:
    if math.isnan(scores["sink"]):
        return HeadLabel("empty", math.nan, scores, offset)
    if scores["sink"] >= limits.sink:
        return HeadLabel("sink", scores["sink"], scores, offset)
    patterns = {n: s for n, s in scores.items() if n not in ("sink", "broad", "local") and not math.isnan(s)}
    best = max(patterns, key=lambda name: patterns[name], default=None)
    if best is not None and patterns[best] >= limits.pattern:
        return HeadLabel(best, patterns[best], scores, offset)
    for name, least in (("broad", limits.broad), ("local", limits.local)):
        if scores[name] >= least:
            return HeadLabel(name, scores[name], scores, offset)
    return HeadLabel("mixed", patterns[best] if best is not None else math.nan, scores, offset)

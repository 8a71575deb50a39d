"""One block of the matrix, stage by stage, in plain PyTorch: the rules of attention on any device.

Half precision is computed in float32, float64 in float64.

Letters: B batch, H heads, G key/value heads, N queries, M keys; a block has b x H x n x m entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sightline.backends.grouped import grouped_product
from sightline.backends.problem import Problem, compute_dtype
from sightline.backends.schedule import Numbered, Place
from sightline.backends.seen import finite, may_hide, over_seen
from sightline.backends.select import part
from sightline.backends.softmax import (
    RowSums,
    Sums,
    SumsForBlock,
    log_weights_of,
    own_sums,
    sums_of,
    weights_of,
)
from sightline.common.vocabulary import STAGES
from sightline.common.zones import zone
from sightline.positions import key_ranges


class MatrixBlock:
    """A block of the matrix; each stage is computed when it is first asked for.

    Args:
        problem: whose matrix.
        place: which part; its rows may have a step, its columns have none.
        sums: of all rows, [B,H,N], for the weights, or what gives them when they are asked for; "own" if it
            holds all that its rows may see; ``None`` where only logits are asked for.
    """

    def __init__(
        self, problem: Problem, place: Place, sums: SumsForBlock | Callable[[], SumsForBlock] | None = None
    ) -> None:
        self.problem, self.place = problem, place
        self._sums = sums
        self._known: dict[str, Tensor] = {}

    @property
    def batch(self) -> slice:
        """Its batch entries."""
        return self.place.batch

    @property
    def rows(self) -> slice:
        """Its queries."""
        return self.place.rows

    @property
    def cols(self) -> slice:
        """Its keys."""
        return self.place.cols

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(b, H, n, m)."""
        b, h, n, m = self.problem.shape
        batch, rows, cols = self.place
        return len(range(b)[batch]), h, len(range(n)[rows]), len(range(m)[cols])

    @property
    def lse(self) -> Tensor:
        """The lse of its rows, [b,H,n], float32 or better."""
        sums = self._row_sums()
        lse = sums.top + sums.log_sum if isinstance(sums, RowSums) else sums
        return lse.to(compute_dtype(self.problem))

    @property
    def sums(self) -> SumsForBlock:
        """What its weights are made with: sums of its rows, [b,H,n], or "own"."""
        if self._sums is None:
            raise ValueError("lse: this block was made without one, and weights need it.")
        whole = self._sums() if callable(self._sums) else self._sums
        return whole if isinstance(whole, str) else sums_of(whole, self.batch, self.rows)

    def _row_sums(self) -> Sums:
        """The sums of its rows."""
        sums = self.sums
        return own_sums(self.masked, self.problem.sinks) if isinstance(sums, str) else sums

    @property
    def scaled(self) -> Tensor:
        """Scores times the scale, [b,H,n,m]."""
        return self.stage("scaled")

    @property
    def capped(self) -> Tensor:
        """What the softcap leaves of the scaled scores, [b,H,n,m]."""
        return self.stage("capped")

    @property
    def masked(self) -> Tensor:
        """The logits, -inf where a query may not look, [b,H,n,m]."""
        return self.stage("masked")

    @property
    def weights(self) -> Tensor:
        """exp(masked - lse), [b,H,n,m]; 0 throughout a row with nothing to look at."""
        return self.stage("weights")

    @property
    def log_weights(self) -> Tensor:
        """masked - lse, [b,H,n,m]."""
        return log_weights_of(self.masked, self._row_sums())

    @property
    def visible(self) -> Tensor:
        """Whether each query may look at each key, [b,H,n,m] bool; takes no look at the scores."""
        hidden = hidden_of(self.problem, self.place)
        device = self.problem.query.device
        seen = torch.ones((), dtype=torch.bool, device=device) if hidden is None else ~hidden
        return seen.expand(self.shape)

    def stage(self, name: str) -> Tensor:
        """The block at one stage: [b,H,n,m], or [b,H,n,E] for "context", summed over these keys alone."""
        if name not in self._known:
            self._known[name] = self._computed(name)
        return self._known[name]

    def _computed(self, name: str) -> Tensor:
        at = STAGES.index(name)
        if at == 0:
            with zone(name):
                return _scores(self.problem, self.place)
        if name == "weights":
            masked = self.stage("masked")  # kept, as most who want weights want them both
            with zone(name):
                return weights_of(masked, self._row_sums())
        if name == "context":
            weights = self.stage("weights")
            with zone(name):
                return self.context(weights)
        earlier = STAGES[at - 1]
        before = self._known[earlier] if earlier in self._known else self._computed(earlier)
        with zone(name):
            return _RULES[name](self.problem, self.place, before)

    def context(self, weights: Tensor, step: int = 1) -> Tensor:
        """The weighted sum of every ``step``-th key's value, [b,H,n,E]; what is hidden takes no part."""
        problem = self.problem
        if problem.value is None:
            raise ValueError("value: the matrix holds none, and a context needs it. Make it with a value.")
        chosen = weights[..., ::step]
        value = problem.value[self.batch, :, self.cols][:, :, ::step].to(weights.dtype)
        context = grouped_product(chosen, value)
        if may_hide(problem) and not finite([context]):
            seen = self.masked[..., ::step] != -math.inf
            context = over_seen(grouped_product, chosen, value, seen)
        return context

    def only_seen(self, pairs: Tensor) -> Tensor:
        """Something made of weights for each pair, [b,H,n,m], with 0 where a NaN is that of a hidden pair."""
        if not may_hide(self.problem) or finite([pairs]):
            return pairs
        return pairs.masked_fill(self.masked == -math.inf, 0)


def _scores(problem: Problem, place: Place | Numbered) -> Tensor:
    dtype = compute_dtype(problem)
    query = problem.query[place.batch, :, place.rows].to(dtype)
    key = problem.key[place.batch, :, place.cols].to(dtype)
    scores = grouped_product(query, key.transpose(-1, -2))
    if scores.requires_grad and may_hide(problem) and not finite([scores]):
        # A hidden pair's gradient of 0 must not meet its NaN; that of a seen one is NaN by itself.
        query, key = (one.masked_fill(~one.isfinite(), 0) for one in (query, key))
        clean = grouped_product(query, key.transpose(-1, -2))
        scores = torch.where(scores.isfinite(), clean, scores.detach() + 0 * clean)
    return scores


def _scale(problem: Problem, place: Place | Numbered, scores: Tensor) -> Tensor:
    return scores * problem.scale


def _cap(problem: Problem, place: Place | Numbered, scaled: Tensor) -> Tensor:
    return cap(problem, scaled)


def _add_bias(problem: Problem, place: Place | Numbered, capped: Tensor) -> Tensor:
    bias = bias_of(problem, place)
    return capped if bias is None else capped + bias


def _hide(problem: Problem, place: Place | Numbered, biased: Tensor) -> Tensor:
    hidden = hidden_of(problem, place)
    return biased if hidden is None else biased.masked_fill(hidden, -math.inf)


_RULES: dict[str, Callable[[Problem, Place | Numbered, Tensor], Tensor]] = {
    "scaled": _scale,
    "capped": _cap,
    "biased": _add_bias,
    "masked": _hide,
}


def logits(problem: Problem, place: Place | Numbered) -> Tensor:
    """The masked scores of a block, [b,H,n,m], at once: what :attr:`MatrixBlock.masked` gives."""
    scores = _scores(problem, place)
    for rule in _RULES.values():
        scores = rule(problem, place, scores)
    return scores


def cap(problem: Problem, scaled: Tensor) -> Tensor:
    """softcap · tanh(scaled / softcap), or the scaled scores where there is no softcap."""
    if problem.softcap is None:
        return scaled
    return problem.softcap * torch.tanh(scaled / problem.softcap)


def numbers(problem: Problem, place: Place | Numbered) -> tuple[Tensor, Tensor]:
    """The numbers of a block's queries, [n,1], and of its keys, [m]: int64."""
    if isinstance(place, Numbered):
        return place.queries, place.keys
    device = problem.query.device
    queries = torch.arange(problem.shape[2], device=device)[place.rows]
    return queries[:, None], torch.arange(place.cols.start, place.cols.stop, device=device)


def steps(problem: Problem, place: Place | Numbered) -> Tensor:
    """j - i - offset, [1|b, n, m]."""
    i, j = numbers(problem, place)
    assert problem.offset is not None
    return j - (i + part(problem.offset, 0, place.batch)[:, None, None])


def bias_of(problem: Problem, place: Place | Numbered) -> Tensor | None:
    """The sum of all bias terms, broadcasting to [b,H,n,m]; ``None`` if there is none."""
    dtype = compute_dtype(problem)
    total = None
    if problem.bias is not None:
        total = _part_of_term(problem.bias, place).to(dtype)
    if problem.slopes is not None:
        slopes = part(problem.slopes, 0, place.batch).to(dtype)
        term = -slopes[..., None, None] * steps(problem, place).abs()[:, None]
        total = term if total is None else total + term
    if problem.table is not None:
        term = problem.table.to(dtype)[:, table_index(problem, place)].movedim(0, 1)
        total = term if total is None else total + term
    return total


def table_index(problem: Problem, place: Place | Numbered) -> Tensor:
    """Where each entry of the block reads the relative table, [1|b, n, m]."""
    assert problem.table is not None
    radius = problem.table.shape[1] // 2
    return steps(problem, place).clamp(-radius, radius) + radius


def hidden_of(problem: Problem, place: Place | Numbered) -> Tensor | None:
    """True where a query may not look, broadcasting to [b,H,n,m]; ``None`` if nothing is hidden.

    A bias of -inf hides whatever the score is, were it NaN.
    """
    by_mask, by_bias = _hidden_by_mask(problem, place), _hidden_by_bias(problem, place)
    if by_mask is None or by_bias is None:
        return by_bias if by_mask is None else by_mask
    return by_mask | by_bias


def _hidden_by_mask(problem: Problem, place: Place | Numbered) -> Tensor | None:
    seen = None
    if problem.ranges is not None:
        ranges = part(part(problem.ranges, 0, place.batch), 2, place.rows)
        cols = place.keys if isinstance(place, Numbered) else place.cols
        seen = key_ranges.contains(ranges, cols)
    if problem.visible is not None:
        visible = _part_of_term(problem.visible, place)
        seen = visible if seen is None else seen & visible
    return None if seen is None else ~seen


def _hidden_by_bias(problem: Problem, place: Place | Numbered) -> Tensor | None:
    hidden = None
    if problem.bias is not None:
        hidden = _part_of_term(problem.bias, place) == -math.inf
    if problem.table is not None:
        table = problem.table.detach() == -math.inf
        if torch.compiler.is_compiling() or table.any():
            by_distance = table[:, table_index(problem, place)].movedim(0, 1)
            hidden = by_distance if hidden is None else hidden | by_distance
    return hidden


def _part_of_term(term: Tensor, place: Place | Numbered) -> Tensor:
    """The block's part of a [1|B, 1|H, 1|N, 1|M] tensor."""
    return part(part(part(term, 0, place.batch), 2, place.rows), 3, place.cols)

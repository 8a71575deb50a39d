"""What is measured of each head in each document: most numbers come from one common pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline import measure
from sightline.common.errors import CommandError
from sightline.matrix import AttentionMatrix
from sightline.measure.rows import viewers
from sightline.profiling.bins import LOGITS, NATS, POSITIONS, SHARE, Scale
from sightline.profiling.reads import Reads

_BOTH = ("self", "cross")
_SELF = ("self",)
_SINK = "The key that receives most is often a sink: read it together with sink_mass."


@dataclass(frozen=True)
class Statistic:
    """One number for each head and document.

    Attributes:
        name: as in ``--measures`` and in the table.
        title: its name in words.
        formula: with w_ij for the weight of query i and key j, N queries that see a key.
        unit: of its numbers.
        range: the least and the largest value it can take.
        source, caveat: as in :class:`sightline.measure.Measure`.
        scale: the bins of its histogram.
        kinds: "self", "cross" or both: the attention for which it is meaningful.
        needs: the readouts that it takes from the common pass.
        compute: [B,H] from what was read of a call; ``None`` where the call has no such number.
        standard: whether it is measured by default.
    """

    name: str
    title: str
    formula: str
    unit: str
    range: tuple[float, float]
    source: str
    caveat: str
    scale: Scale
    kinds: tuple[str, ...]
    needs: tuple[str, ...]
    compute: Callable[[Reads], Tensor | None]
    standard: bool = True


STATISTICS: dict[str, Statistic] = {}


def check_measures(names: Sequence[str]) -> None:
    """Raises unless there is at least one name, and each names a statistic.

    Raises:
        CommandError: for an unknown name, or none at all.
    """
    for name in names:
        if name not in STATISTICS:
            raise CommandError(f"measures: there is no measure {name!r}; known: {', '.join(STATISTICS)}")
    if not names:
        raise CommandError("measures: none is given")


def choose(names: Sequence[str] | None) -> tuple[Statistic, ...]:
    """The statistics with these names, in the catalogue's order; the standard ones for ``None``."""
    return tuple(one for one in STATISTICS.values() if (one.standard if names is None else one.name in names))


def _add(
    name: str,
    title: str,
    scale: Scale,
    compute: Callable[[Reads], Tensor | None],
    *,
    of: str | None = None,
    formula: str | None = None,
    unit: str | None = None,
    range: tuple[float, float] | None = None,
    caveat: str | None = None,
    kinds: tuple[str, ...] = _BOTH,
    needs: tuple[str, ...] = (),
    standard: bool = True,
) -> None:
    """Adds a statistic to the catalogue; what is not given comes from the measure ``of`` or ``name``."""
    base = measure.about(of or name)
    STATISTICS[name] = Statistic(
        name,
        title,
        formula or base.formula,
        unit or base.unit,
        range or base.range,
        base.source,
        caveat or base.caveat,
        scale,
        kinds,
        needs,
        compute,
        standard,
    )


def _normalized_entropy(reads: Reads) -> Tensor:
    counts = reads.seen.counts
    most = counts.clamp(min=2).to(reads.entropy.dtype).log()
    return reads.mean(reads.entropy / most, counts > 1)


def _max_logit(reads: Reads) -> Tensor:
    return reads.max_score.masked_fill(~reads.rows, -math.inf).amax(-1)


def _top8(reads: Reads) -> Tensor:
    return reads.mean(reads.topk.values.sum(-1))


def _learned_sink(reads: Reads) -> Tensor | None:
    return None if reads.matrix.problem.sinks is None else measure.learned_sink_mass(reads.matrix)


def _received_max(reads: Reads) -> Tensor:
    return _shares(reads).amax(-1)


def _received_entropy(reads: Reads) -> Tensor:
    shares = _shares(reads)
    keys = (viewers(reads.matrix) > 0).sum(-1)
    spread = -torch.xlogy(shares, shares).sum(-1) / keys.clamp(min=2).to(shares.dtype).log()
    return torch.where(keys > 1, spread, math.nan)


def _received_gini(reads: Reads) -> Tensor:
    # Keys that no query may see receive 0 and come first when sorted; ranks begin after them.
    shares = _shares(reads).sort(-1).values
    keys = (viewers(reads.matrix) > 0).sum(-1)
    rank = torch.arange(1, shares.shape[-1] + 1, device=shares.device) - (shares.shape[-1] - keys)[..., None]
    gini = (2 * (rank * shares).sum(-1) - (keys + 1)) / keys
    return torch.where(keys > 0, gini.clamp(min=0), math.nan)


def _next_token(reads: Reads) -> Tensor:
    # Without the last row of a document, whose next key is padding.
    weights = measure.next_token(reads.matrix, per_query=True)
    return reads.mean(weights[..., :-1], reads.rows[..., :-1] & reads.rows[..., 1:])


def _of_tokens(function: Callable[[AttentionMatrix, Tensor], Tensor]) -> Callable[[Reads], Tensor | None]:
    """A measure that compares tokens; absent where they are not known."""
    return lambda reads: None if reads.tokens is None else function(reads.matrix, reads.tokens)


def _shares(reads: Reads) -> Tensor:
    """[B,H,M], summing to 1; NaN where nothing is received."""
    received = reads.received.double()
    return received / received.sum(-1, keepdim=True)


_add("entropy", "entropy", NATS, lambda reads: reads.mean(reads.entropy), needs=("entropy",))
_add(
    "entropy_normalized",
    "normalized entropy",
    SHARE,
    _normalized_entropy,
    of="entropy",
    formula="-Σ_j w_ij ln w_ij / ln(number of keys that query i may see), for queries that see two or more",
    unit="share of the largest entropy",
    range=(0, 1),
    needs=("entropy",),
)
_add("max_logit", "largest logit", LOGITS, _max_logit, needs=("max_score",))
_add(
    "max_weight",
    "largest weight",
    SHARE,
    lambda reads: reads.mean(reads.topk.values[..., 0]),
    of="entropy",
    formula="max_j w_ij",
    unit="share of weight",
    range=(0, 1),
    needs=("topk",),
)
_add(
    "top8_mass",
    "weight on the 8 largest",
    SHARE,
    _top8,
    of="entropy",
    formula="Σ of the 8 largest w_ij of row i",
    unit="share of weight",
    range=(0, 1),
    caveat="Rows that see 8 keys or fewer read 1 whatever they do: short documents look selective.",
    needs=("topk",),
)
_add("sink_mass", "weight on the first key", SHARE, lambda reads: measure.sink_mass(reads.matrix))
_add("learned_sink_mass", "weight on the learned sink", SHARE, _learned_sink)
_add("previous_token", "previous token", SHARE, lambda r: measure.previous_token(r.matrix), kinds=_SELF)
_add(
    "attention_distance",
    "attention distance",
    POSITIONS,
    lambda reads: reads.mean(reads.distance),
    kinds=_SELF,
    needs=("distance",),
)
_add(
    "received_max",
    "received by the top key",
    SHARE,
    _received_max,
    of="received",
    formula="max_j r_j, with r_j = Σ_i w_ij / Σ_ij w_ij",
    unit="share of all weight",
    range=(0, 1),
    caveat=_SINK,
    needs=("received",),
)
_add(
    "received_entropy",
    "spread of received weight",
    SHARE,
    _received_entropy,
    of="received",
    formula="-Σ_j r_j ln r_j / ln M, with r_j = Σ_i w_ij / Σ_ij w_ij and M keys that some query may see",
    unit="share of the largest entropy",
    range=(0, 1),
    caveat=_SINK,
    needs=("received",),
)
_add(
    "received_gini",
    "inequality of received weight",
    SHARE,
    _received_gini,
    of="received",
    formula="(2 Σ_k k r_(k) - (M + 1)) / M, with r_(1) ≤ … ≤ r_(M) the shares r_j in order",
    unit="Gini coefficient",
    range=(0, 1),
    caveat=_SINK,
    needs=("received",),
    standard=False,
)
for _name, _title, _compute in (
    ("next_token", "next token", _next_token),
    ("local_mass", "weight within 5 tokens", lambda r: measure.local_mass(r.matrix)),
    ("diagonality", "diagonality", lambda r: measure.diagonality(r.matrix)),
    ("duplicate_token", "duplicate token", _of_tokens(measure.duplicate_token)),
    ("induction", "induction", _of_tokens(measure.induction)),
):
    _add(_name, _title, SHARE, _compute, kinds=_SELF, standard=False)
_add(
    "entropy_collapse",
    "collapsed rows",
    SHARE,
    lambda reads: measure.entropy_collapse(reads.matrix),
    standard=False,
)

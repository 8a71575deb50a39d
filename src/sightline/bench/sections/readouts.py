"""Readouts as shares of the forward time, against eager PyTorch, which needs the whole matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.bench.case import Case, Inputs, inputs
from sightline.bench.pattern import CAUSAL, FULL, Pattern
from sightline.bench.sections.section import CASE, DTYPE, MS, SPREAD, BenchSection, Column
from sightline.bench.session import Row, Session, figures
from sightline.bench.timing import clock, take_turns
from sightline.call.attention import attention
from sightline.masks import causal
from sightline.matrix import AttentionMatrix

Parts = dict[str, Tensor]
WORST = "received + entropy + top-8"


class ReadoutSet(NamedTuple):
    """Something to read off the matrix, in named parts.

    Attributes:
        ours: from an AttentionMatrix and the values.
        eager: from the dense weights [B,H,N,M] and the values.
    """

    ours: Callable[[AttentionMatrix, Tensor], Parts]
    eager: Callable[[Tensor, Tensor], Parts]


def _readouts(*names: str, topk: int | None = None, mass: int | None = None) -> ReadoutSet:
    def ours(A: AttentionMatrix, value: Tensor) -> Parts:
        segments = None if mass is None else _segments(A.shape[-1], mass)
        parts = vars(A.readouts(*names, topk=topk, segments=segments))
        return {name: part[0] if isinstance(part, tuple) else part for name, part in parts.items()}

    def eager(weights: Tensor, value: Tensor) -> Parts:
        parts = {name: _EAGER[name](weights) for name in names}
        if topk is not None:
            parts["topk"] = weights.topk(min(topk, weights.shape[-1])).values
        if mass is not None:
            one_hot = torch.nn.functional.one_hot(_segments(weights.shape[-1], mass))
            parts["mass"] = weights @ one_hot.to(weights.dtype)
        return parts

    return ReadoutSet(ours, eager)


def _segments(keys: int, count: int) -> Tensor:
    return torch.arange(keys) * min(count, keys) // keys


def _distance(weights: Tensor) -> Tensor:
    n, m = weights.shape[-2:]
    steps = (torch.arange(n)[:, None] + m - n - torch.arange(m)).abs()
    return (weights * steps).sum(-1)


_EAGER: dict[str, Callable[[Tensor], Tensor]] = {
    "received": lambda weights: weights.sum(-2),
    "entropy": lambda weights: torch.special.entr(weights).sum(-1),
    "max": lambda weights: weights.amax(-1),
    "distance": _distance,
}


def _cells(weights: Tensor) -> int:
    """Cells per side: it divides the measured lengths, so that PyTorch's cells are the same as ours."""
    return min(256, weights.shape[-1])


SETS: dict[str, ReadoutSet] = {
    "received + entropy": _readouts("received", "entropy"),
    WORST: _readouts("received", "entropy", topk=8),
    "max": _readouts("max"),
    "distance": _readouts("distance"),
    "all of these": _readouts("received", "entropy", "max", "distance", topk=8),
    "mass of 16 segments": _readouts(mass=16),
    "picture, 256 × 256, sums": ReadoutSet(
        lambda A, value: {"picture": A.pool(min(256, A.shape[-1]), min(256, A.shape[-1]), reduce="sum")},
        lambda weights, value: {
            "picture": torch.nn.functional.adaptive_avg_pool2d(weights, _cells(weights))
            * (weights.shape[-1] / _cells(weights)) ** 2
        },
    ),
    "A @ x": ReadoutSet(
        lambda A, value: {"product": A @ value.float()},
        lambda weights, value: {"product": weights @ value.to(weights.dtype)},
    ),
    "A.T @ x": ReadoutSet(
        lambda A, value: {"product": A.T @ value.float()},
        lambda weights, value: {"product": weights.mT @ value.to(weights.dtype)},
    ),
}


def rows(session: Session) -> Iterator[Row]:
    """Every set at every size; then keys in ascending order of score, the worst case for a top-k."""
    lengths = session.pick(full=(1024, 4096), quick=(1024,), tiny=(16,))
    for dtype, n, pattern in product(("float32", "bfloat16"), lengths, (FULL, CAUSAL)):
        heads = 2 if n < 64 or n > 2048 else 8
        yield from _measured(session, Case(n, dtype=dtype, heads=heads, pattern=pattern))
    for dtype in ("float32", "bfloat16"):
        yield from _measured(session, Case(lengths[-1], dtype=dtype, heads=2), ascending=True)


def _measured(session: Session, case: Case, ascending: bool = False) -> Iterator[Row]:
    torch.set_num_threads(session.settings.threads)
    given = inputs(case)
    sets = SETS
    if ascending:
        given = _ascending(given)
        sets = {WORST: SETS[WORST]}
    title = f"{case}, keys in ascending order" if ascending else str(case)
    session.progress(title)
    mask = None if case.pattern == FULL else causal()
    context, A = attention(*given[:3], mask=mask, return_matrix=True)
    calls: dict[str, Any] = {"forward": lambda: attention(*given[:3], mask=mask)}
    for name, readout_set in sets.items():
        calls[name] = partial(readout_set.ours, A, given.value)
        calls[_eager_name(name)] = partial(_eager, readout_set, given, case.pattern)
    mistakes = _mistakes(calls, given, case.pattern, sets)
    for call in calls.values():
        call()
    timed = {name: partial(clock, call) for name, call in calls.items()}
    samples = take_turns(timed, session.settings.budget, session.wall)
    for name in sets:
        ours = samples[name]
        yield {
            "case": title,
            "dtype": case.dtype,
            "readouts": name,
            "ms": ours.median * 1e3,
            "spread": ours.spread,
            "of_forward": 1 / ours.over(samples["forward"]),
            "x_eager": ours.over(samples[_eager_name(name)]),
            "verdict": mistakes.get(name, "ok"),
            "contenders": {
                label: figures(samples[key], ours)
                for label, key in (("forward", "forward"), ("eager", _eager_name(name)), (name, name))
            },
        }


def _ascending(given: Inputs) -> Inputs:
    """Scores grow with the key's position for every query, so that each tile has new largest entries."""
    query, key, value, grad, bias = given
    width = query.shape[-1]
    ramp = torch.linspace(-1, 1, key.shape[2], dtype=torch.float32)[:, None].expand(-1, width)
    return Inputs(torch.ones_like(query), ramp.to(key.dtype).expand_as(key).contiguous(), value, grad, bias)


def _eager_name(name: str) -> str:
    return f"eager {name}"


def _eager(readout_set: ReadoutSet, given: Inputs, pattern: Pattern) -> Parts:
    """The same from the whole matrix, in float32 as the readouts are."""
    return readout_set.eager(_weights(given.query.float(), given.key.float(), pattern), given.value)


def _weights(query: Tensor, key: Tensor, pattern: Pattern) -> Tensor:
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if pattern != FULL:
        scores = scores.masked_fill(~pattern.dense(1, query.shape[2], key.shape[2]), -torch.inf)
    weights: Tensor = scores.softmax(-1)
    return weights


def _mistakes(
    calls: dict[str, Any], given: Inputs, pattern: Pattern, sets: dict[str, ReadoutSet]
) -> dict[str, str]:
    """What is wrong with a set's readouts, by the name of the set."""
    weights = _weights(given.query.double(), given.key.double(), pattern)
    mistakes = {}
    for name, readout_set in sets.items():
        ours = calls[name]()
        for part, right in readout_set.eager(weights, given.value).items():
            off = (ours[part].double() - right).abs()
            if not torch.allclose(ours[part].double(), right, rtol=1e-3, atol=1e-4):
                mistakes[name] = f"{part} is off by {float(off.max()):.2g}"
    return mistakes


SECTION = BenchSection(
    name="readouts",
    title="Readouts",
    note=(
        "The log-sum-exp is known, as after attention(..., return_matrix=True). Eager computes the whole "
        "matrix in float32, then the same readouts. x is as wide as the values, in float32. Ascending keys: "
        "every tile of a row has new top-8 entries."
    ),
    columns=(
        CASE, DTYPE, Column("readouts", "readouts", "text"), MS, SPREAD,
        Column("of_forward", "of forward", "percent"), Column("x_eager", "× eager", "ratio"),
        Column("verdict", "check", "text"),
    ),
    rows=rows,
)  # fmt: skip

"""Readouts as shares of the forward time, against eager PyTorch, which needs the whole matrix."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import torch

import sightline
from sightline.bench.case import Case, Inputs, inputs
from sightline.bench.pattern import CAUSAL, FULL, Pattern
from sightline.bench.sections.section import CASE, DTYPE, MS, SPREAD, Column, Section
from sightline.bench.session import Row, Session, figures
from sightline.bench.timing import clock, take_turns

SETS: dict[str, tuple[tuple[str, ...], int | None]] = {
    "received + entropy": (("received", "entropy"), None),
    "received + entropy + top-8": (("received", "entropy"), 8),
    "max": (("max",), None),
}


def rows(session: Session) -> Iterator[Row]:
    """Every set at every size; then keys in ascending order of score, the worst case of a top-k."""
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
        sets = {name: SETS[name] for name in ("received + entropy + top-8",)}
    title = f"{case}, keys in ascending order" if ascending else str(case)
    session.progress(title)
    mask = None if case.pattern == FULL else sightline.causal()
    context, A = sightline.attention(*given[:3], mask=mask, return_matrix=True)
    calls: dict[str, Any] = {
        "forward": lambda: sightline.attention(*given[:3], mask=mask),
        "eager": lambda: _eager(given, case.pattern),
    }
    for name, (names, k) in sets.items():
        calls[name] = partial(A.readouts, *names) if k is None else partial(A.readouts, *names, topk=k)
    wrong = _check(calls, given, case.pattern, sets)
    for call in calls.values():
        call()
    timed = {name: partial(clock, call) for name, call in calls.items()}
    samples = take_turns(timed, session.settings.budget, session.wall)
    for name in sets:
        ours = samples[name]
        found = figures(ours, None)
        yield {
            "case": title,
            "dtype": case.dtype,
            "readouts": name,
            "ms": found["ms"],
            "spread": found["spread"],
            "of_forward": 1 / ours.over(samples["forward"]),
            "x_eager": ours.over(samples["eager"]),
            "verdict": wrong.get(name, "ok"),
            "contenders": {label: figures(samples[label], ours) for label in ("forward", "eager", name)},
        }


def _ascending(given: Inputs) -> Inputs:
    """Scores grow with the key's place for every query, so that each tile holds new largest entries."""
    query, key, value, grad, bias = given
    width = query.shape[-1]
    ramp = torch.linspace(-1, 1, key.shape[2], dtype=torch.float32)[:, None].expand(-1, width)
    return Inputs(torch.ones_like(query), ramp.to(key.dtype).expand_as(key).contiguous(), value, grad, bias)


def _eager(given: Inputs, pattern: Pattern) -> tuple[torch.Tensor, ...]:
    """All of it from the whole matrix, in float32 as the readouts are."""
    query, key = given.query.float(), given.key.float()
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if pattern != FULL:
        scores = scores.masked_fill(~pattern.dense(1, query.shape[2], key.shape[2]), -torch.inf)
    weights = scores.softmax(-1)
    values, indices = weights.topk(min(8, weights.shape[-1]))
    return weights.sum(-2), torch.special.entr(weights).sum(-1), values, weights.amax(-1)


def _check(calls: dict[str, Any], given: Inputs, pattern: Pattern, sets: Any) -> dict[str, str]:
    """What is wrong with a set's readouts, by the set's name."""
    received, entropy, values, largest = _eager(
        Inputs(given.query.double(), given.key.double(), *given[2:]), pattern
    )
    wrong = {}
    for name in sets:
        found = calls[name]()
        wanted = {"received": received, "entropy": entropy, "topk": values, "max": largest}
        for part, right in wanted.items():
            if part not in name and not (part == "topk" and "top-8" in name):
                continue
            ours = getattr(found, part)
            ours = ours[0] if isinstance(ours, tuple) else ours
            if not torch.allclose(ours.float(), right, rtol=1e-3, atol=1e-4):
                wrong[name] = f"{part} is off by {float((ours.float() - right).abs().max()):.2g}"
    return wrong


SECTION = Section(
    name="readouts",
    title="Readouts",
    note=(
        "The log-sum-exp is known, as after attention(..., return_matrix=True). Eager computes the whole "
        "matrix in float32, then all of them. Ascending keys: every tile of a row has new top-8 entries."
    ),
    columns=(
        CASE, DTYPE, Column("readouts", "readouts", "text"), MS, SPREAD,
        Column("of_forward", "of forward", "percent"), Column("x_eager", "× eager", "ratio"),
        Column("verdict", "check", "text"),
    ),
    rows=rows,
)  # fmt: skip

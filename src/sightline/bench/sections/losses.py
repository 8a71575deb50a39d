"""Losses made of the matrix, forward and backward, in parts of attention's own two passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.bench.case import Case, inputs
from sightline.bench.pattern import CAUSAL, FULL, Pattern
from sightline.bench.sections.section import CASE, DTYPE, MS, SPREAD, BenchSection, Column
from sightline.bench.session import Row, Session, figures
from sightline.bench.timing import clock, take_turns
from sightline.call.attention import attention
from sightline.masks import Mask, causal
from sightline.matrix import AttentionMatrix

Leaves = tuple[Tensor, ...]
Gradients = tuple[Tensor | None, ...]


class Loss(NamedTuple):
    """What a loss is the mean of.

    Attributes:
        ours: from a differentiable AttentionMatrix and the values.
        eager: from dense masked scores [B,H,N,M] and the values.
    """

    ours: Callable[[AttentionMatrix, Tensor], Tensor]
    eager: Callable[[Tensor, Tensor], Tensor]


def _entropy(scores: Tensor, value: Tensor) -> Tensor:
    logs = scores.log_softmax(-1)
    return -(logs.exp() * logs.masked_fill(logs == -torch.inf, 0)).sum(-1)


LOSSES: dict[str, Loss] = {
    "lse": Loss(lambda A, value: A.lse, lambda scores, value: scores.logsumexp(-1)),
    "entropy": Loss(lambda A, value: A.entropy(), _entropy),
    "received": Loss(
        lambda A, value: A.received().square(),
        lambda scores, value: scores.softmax(-1).sum(-2).square(),
    ),
    "A @ x": Loss(
        lambda A, value: A @ value.float(),
        lambda scores, value: scores.softmax(-1) @ value.float(),
    ),
    "reduce, w³": Loss(
        lambda A, value: A.reduce(lambda w, s, i, j: w**3),
        lambda scores, value: (scores.softmax(-1) ** 3).sum(-1),
    ),
}
TOGETHER = "context + entropy"


def rows(session: Session) -> Iterator[Row]:
    """Every loss at every size; the entropy also in one backward pass with the context."""
    lengths = session.pick(full=(1024, 4096), quick=(1024,), tiny=(16,))
    for dtype, n, pattern in product(("float32", "bfloat16"), lengths, (FULL, CAUSAL)):
        heads = 2 if n < 64 or n > 2048 else 8
        yield from _measured(session, Case(n, dtype=dtype, heads=heads, pattern=pattern))


def _measured(session: Session, case: Case) -> Iterator[Row]:
    torch.set_num_threads(session.settings.threads)
    session.progress(str(case))
    leaves = tuple(one.detach().requires_grad_() for one in inputs(case)[:3])
    mask = None if case.pattern == FULL else causal()
    calls = _calls(leaves, mask, case.pattern)
    for call in calls.values():
        call()
    timed = {name: partial(clock, call) for name, call in calls.items()}
    samples = take_turns(timed, session.settings.budget, session.wall)
    for name in (*LOSSES, TOGETHER):
        ours, eager = samples[name], _eager_name(name)
        yield {
            "case": str(case),
            "dtype": case.dtype,
            "loss": name,
            "ms": ours.median * 1e3,
            "spread": ours.spread,
            "of_attention": 1 / ours.over(samples["attention"]),
            "x_eager": ours.over(samples[eager]),
            "contenders": {
                label: figures(samples[key], ours)
                for label, key in (("attention", "attention"), ("eager", eager), (name, name))
            },
        }


def _calls(leaves: Leaves, mask: Mask | None, pattern: Pattern) -> dict[str, Callable[[], Gradients]]:
    calls: dict[str, Callable[[], Gradients]] = {
        "attention": lambda: _gradients([attention(*leaves, mask=mask)], leaves),
        TOGETHER: lambda: _gradients(_both(leaves, mask), leaves),
        _eager_name(TOGETHER): lambda: _gradients(_eager_both(leaves, pattern), leaves),
    }
    for name, loss in LOSSES.items():
        calls[name] = partial(_ours, loss, leaves, mask)
        calls[_eager_name(name)] = partial(_eager, loss, leaves, pattern)
    return calls


def _gradients(read: list[Tensor], leaves: Leaves) -> Gradients:
    loss = torch.stack([one.float().mean() for one in read]).sum()
    return torch.autograd.grad(loss, leaves, allow_unused=True)


def _ours(loss: Loss, leaves: Leaves, mask: Mask | None) -> Gradients:
    query, key, value = leaves
    A = AttentionMatrix(query, key, mask=mask, detach=False)
    return _gradients([loss.ours(A, value.detach())], leaves)


def _both(leaves: Leaves, mask: Mask | None) -> list[Tensor]:
    query, key, value = leaves
    context, A = attention(query, key, value, mask=mask, return_matrix="differentiable")
    return [context, A.entropy()]


def _eager_name(name: str) -> str:
    return f"eager {name}"


def _eager(loss: Loss, leaves: Leaves, pattern: Pattern) -> Gradients:
    return _gradients([loss.eager(_scores(leaves, pattern), leaves[2].detach())], leaves)


def _eager_both(leaves: Leaves, pattern: Pattern) -> list[Tensor]:
    scores = _scores(leaves, pattern)
    return [scores.softmax(-1) @ leaves[2].float(), _entropy(scores, leaves[2])]


def _scores(leaves: Leaves, pattern: Pattern) -> Tensor:
    """Of all pairs, in float32 as the readouts are."""
    query, key, _ = leaves
    scores: Tensor = query.float() @ key.float().mT / query.shape[-1] ** 0.5
    if pattern == FULL:
        return scores
    return scores.masked_fill(~pattern.dense(1, query.shape[2], key.shape[2]), -torch.inf)


SECTION = BenchSection(
    name="losses",
    title="Losses",
    note=(
        "The mean of what is read, and its gradients of query and key; the log-sum-exp is not known "
        "beforehand. In parts of attention's own forward and backward pass, and against eager PyTorch, which "
        "keeps the whole matrix in float32. The last one is attention itself and the entropy of its rows, in "
        "one backward pass."
    ),
    columns=(
        CASE, DTYPE, Column("loss", "loss", "text"), MS, SPREAD,
        Column("of_attention", "of attention", "percent"), Column("x_eager", "× eager", "ratio"),
    ),
    rows=rows,
)  # fmt: skip

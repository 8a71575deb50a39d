"""Which code runs a call, and why not a faster one: asked of the decisions that the call itself makes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sightline.backends import cpu, decide, native
from sightline.backends.problem import Problem
from sightline.backends.share import computed_share
from sightline.backends.stages import compute_dtype
from sightline.biases import Bias
from sightline.call.attention import autocast
from sightline.call.lower import check_dropout, lower
from sightline.masks import Mask


@dataclass(frozen=True)
class Pass:
    """How one pass, forward or backward, runs.

    Attributes:
        backend: "cpu" (native kernels) or "chunked" (plain PyTorch).
        path: "blocks" (64 queries of one head at a time), "decode" (few queries, many keys: each key and
            value is read once for all query heads of its group) or "rows" (chunked: blocks of full rows).
        level: the instruction-set level of the native core; ``None`` for PyTorch's own.
        threads: that take part; for a backward pass and for PyTorch's own: at most.
        arithmetic: what is multiplied; sums are float32, or float64 for float64.
    """

    backend: str
    path: str
    level: str | None
    threads: int
    arithmetic: str

    def __str__(self) -> str:
        code = "plain PyTorch" if self.level is None else f"native, {self.level}"
        return f"{code}, {self.path}, {self.threads} thread{'s' * (self.threads != 1)}, {self.arithmetic}"


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` found.

    Attributes:
        forward, backward: how each pass runs.
        mask: "none", "ranges", "dense" or "ranges and dense": what the mask was lowered to.
        computed: the share of the matrix that is computed; the rest is skipped.
        reasons: why a slower path was taken, with the remedy, a sentence or two each; empty where none was.
    """

    forward: Pass
    backward: Pass
    mask: str
    computed: float
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"forward:  {self.forward}",
            f"backward: {self.backward}",
            f"mask:     {self.mask}; {self.computed:.0%} of the matrix is computed",
        ]
        return "\n".join(lines + [f"- {reason}" for reason in self.reasons])


def explain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Mask | Tensor | None = None,
    bias: Bias | Tensor | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
) -> Explanation:
    """Which code would run this call of :func:`attention`, and why not a faster one. Computes no attention.

    Args:
        query, key, value, mask, bias, scale, softcap, sinks, dropout: as :func:`attention` takes them.

    Returns:
        An :class:`Explanation`; print it. It holds for the settings of the moment: SIGHTLINE_ISA,
        SIGHTLINE_BACKEND, :func:`backend`, ``torch.set_num_threads``, autocast.

    Raises:
        ValueError, TypeError: what :func:`attention` would raise.

    Example:
        >>> import sightline, torch
        >>> query, key, value = torch.randn(3, 1, 8, 1024, 64, dtype=torch.float64)
        >>> print(sightline.explain(query, key, value).reasons[0])
        Plain PyTorch instead of the native kernels: the dtype is torch.float64, and ... Use .float() ...
    """
    query, key, value = autocast(query, key, value)
    check_dropout(dropout)
    problem = lower(query, key, value, mask=mask, bias=bias, scale=scale, softcap=softcap, sinks=sinks)
    if dropout > 0:  # the pattern's seed plays no part, so none is drawn
        problem = replace(problem, dropout=float(dropout), seed=torch.zeros((), dtype=torch.int64))
    return explain_problem(problem)


def explain_problem(problem: Problem) -> Explanation:
    """The same for a lowered problem."""
    name, reason = decide(problem)
    passes = _native if name == "cpu" else _chunked
    forward, backward, reasons = passes(problem)
    if reason is not None:
        reasons = [f"Plain PyTorch instead of the native kernels: {reason}.", *reasons]
    return Explanation(
        forward, backward, _mask(problem), computed_share(problem, name), (*reasons, *_dense(problem))
    )


def _chunked(problem: Problem) -> tuple[Pass, Pass, list[str]]:
    arithmetic = str(compute_dtype(problem)).removeprefix("torch.")
    found = Pass("chunked", "rows", None, torch.get_num_threads(), arithmetic)
    return found, found, []


def _native(problem: Problem) -> tuple[Pass, Pass, list[str]]:
    plan = cpu.plan(problem)
    forward = Pass("cpu", plan.path, plan.level, plan.workers, plan.products)
    backward = Pass("cpu", "blocks", plan.level, torch.get_num_threads(), plan.products)
    return forward, backward, [*_level(plan), *_threads(plan), *_copies(problem)]


def _level(plan: cpu.Plan) -> list[str]:
    here, built = native.levels(), native.built_levels()
    if plan.level != here[-1]:
        return [
            f"Level {plan.level}, although this machine can run {here[-1]}: SIGHTLINE_ISA says so. Unset it."
        ]
    if plan.level != built[-1]:
        missing = ", ".join(built[built.index(plan.level) + 1 :])
        return [f"Level {plan.level} is this machine's best; the build also has {missing}, which it lacks."]
    return []


def _threads(plan: cpu.Plan) -> list[str]:
    allowed = torch.get_num_threads()
    if plan.workers >= allowed:
        return []
    if plan.parts <= plan.workers:
        pieces = f"{plan.parts} piece{'s' * (plan.parts != 1)}"
        why = f"the work comes in {pieces}. Larger batches have more"
    else:
        why = "the call is too short: waking more would cost more than it saves. Larger batches use more"
    return [f"{plan.workers} of {allowed} threads: {why}."]


def _copies(problem: Problem) -> list[str]:
    return [f"{name}: copied in every call, because {why}." for name, why in cpu.copied(problem).items()]


def _mask(problem: Problem) -> str:
    kinds = [
        kind for kind, term in (("ranges", problem.ranges), ("dense", problem.visible)) if term is not None
    ]
    return " and ".join(kinds) or "none"


def _dense(problem: Problem) -> list[str]:
    if problem.visible is None:
        return []
    shape = list(problem.visible.shape)
    size = problem.visible.numel()
    return [
        f"The mask is a dense tensor {shape}, of which every call reads {size:,} bytes. causal(), window(), "
        "prefix(), lengths(), documents() and ranges() are key ranges instead, linear in N."
    ]

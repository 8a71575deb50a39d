"""Which code runs a call, and why not a faster one: asked of the decisions that the call itself makes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sightline.backends import Problem, decide
from sightline.backends.contract import Pass
from sightline.biases import Bias
from sightline.lowering import autocast, check_value, checked_dropout, lower
from sightline.masks import Mask
from sightline.products import titles


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` says.

    Attributes:
        forward, backward: how each pass runs.
        mask: "none", "ranges", "dense" or "ranges and dense": what the mask was lowered to.
        computed: the share of the matrix that is computed; the rest is skipped.
        linear: how linear layers multiply as many rows of this dtype, see :func:`sightline.product`: forward,
            and the gradients of input and weight.
        reasons: why a slower path was taken, with the remedy, a sentence or two each; empty where none was.

    Example:
        >>> import sightline, torch
        >>> query, key, value = torch.randn(3, 1, 8, 1024, 64)
        >>> explanation = sightline.explain(query, key, value, mask=sightline.causal())
        >>> explanation.mask, round(explanation.computed, 2)
        ('ranges', 0.51)
    """

    forward: Pass
    backward: Pass
    mask: str
    computed: float
    linear: tuple[str, str, str]
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"forward:  {self.forward}",
            f"backward: {self.backward}",
            f"mask:     {self.mask}; {self.computed:.0%} of the matrix is computed",
            f"linear:   {self.linear[0]} (gradients: {self.linear[1]} and {self.linear[2]})",
        ]
        return "\n".join(lines + [f"- {reason}" for reason in self.reasons])


def explain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Mask | Tensor | None = None,
    bias: Bias | Tensor | None = None,
    scale: float | Tensor | None = None,
    softcap: float | Tensor | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
) -> Explanation:
    """Which code would run this call of :func:`attention`, and why not a faster one; computes no attention.

    Args:
        query: [B,H,N,D]; key: [B,G,M,D]; value: [B,G,M,E].
        mask, bias, scale, softcap, sinks, dropout: as :func:`attention` takes them.

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
    check_value(value)
    query, key, value = autocast(query, key, value)
    dropout = checked_dropout(dropout)
    problem = lower(query, key, value, mask=mask, bias=bias, scale=scale, softcap=softcap, sinks=sinks)
    if dropout > 0:  # the pattern's seed plays no part, so none is drawn
        problem = replace(problem, dropout=dropout, seed=torch.zeros((), dtype=torch.int64))
    return explain_problem(problem)


def explain_problem(problem: Problem) -> Explanation:
    """The same for a lowered problem."""
    learned = _learned(problem)
    if isinstance(problem.softcap, Tensor):
        problem = replace(problem, softcap=1.0)  # its number plays no part
    backend, first, reason = decide(problem)
    plan = backend.plan(problem)
    chosen = backend.kernels[0].upper() + backend.kernels[1:]
    slower = () if reason is None else (f"{chosen} instead of {first.kernels}: {reason}.",)
    reasons = (*slower, *plan.reasons, *_dense(problem), *learned)
    return Explanation(plan.forward, plan.backward, _mask(problem), plan.computed, _linear(problem), reasons)


def _linear(problem: Problem) -> tuple[str, str, str]:
    """How a projection of the model's width to itself would be multiplied, and its gradients."""
    b, h, n, _ = problem.shape
    width, query = h * problem.query.shape[3], problem.query
    if query.device.type != "cpu":
        return ("PyTorch's own",) * 3
    return titles(query.dtype, b * n, width * width)


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


def _learned(problem: Problem) -> list[str]:
    if not isinstance(problem.softcap, Tensor):
        return []
    return [
        "The softcap is a tensor that wants gradients: its backward pass runs in plain PyTorch, whatever is "
        "said above. Give a number where it is not learned."
    ]

"""How a changed call looks: its problem, in parts where heads go ways of their own, and what follows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sightline.backends import Problem
from sightline.backends.select import select_heads
from sightline.call.run import run
from sightline.interventions.joining import averaged, joined

#: Makes another context [B,H,N,E] of a context.
After = Callable[[Tensor], Tensor]


@dataclass
class Part:
    """Some heads, in order, and the problem that is theirs."""

    heads: list[int]
    problem: Problem


@dataclass
class Looking:
    """A call while it is being changed.

    Attributes:
        parts: every head is in one of them.
        after: what is done to the context, in order.
        unexplained: why the weights are not what made the context, if so.
        averaged: heads whose context is the mean of their contexts.
        touched: the heads that may have another context than before; ``None`` for all.
    """

    parts: list[Part]
    after: list[After] = field(default_factory=list)
    unexplained: str | None = None
    averaged: list[list[int] | None] = field(default_factory=list)
    touched: set[int] | None = field(default_factory=set)

    @classmethod
    def of(cls, problem: Problem) -> Looking:
        """A call as it is."""
        return cls([Part(list(range(problem.shape[1])), problem)])

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, H, N, M)."""
        b, _, n, m = self.parts[0].problem.shape
        return b, sum(len(part.heads) for part in self.parts), n, m

    def change(self, heads: list[int] | None, how: Callable[[Problem, list[int] | None], Problem]) -> None:
        """Changes the problem of some heads where it stands; ``how`` takes it and their places in it."""
        for part in self.parts:
            here = None if heads is None else [at for at, head in enumerate(part.heads) if head in set(heads)]
            if here is None or here:
                part.problem = how(part.problem, here)

    def apart(self, heads: list[int] | None, how: Callable[[Problem, list[int]], Problem]) -> None:
        """Gives some heads a problem of their own; ``how`` takes the one they had, and which they are."""
        changed: list[Part] = []
        for part in self.parts:
            here = [head for head in part.heads if heads is None or head in heads]
            rest = [head for head in part.heads if head not in here]
            if here and rest:
                places = [[part.heads.index(head) for head in those] for those in (rest, here)]
                changed.append(Part(rest, select_heads(part.problem, places[0])))
                changed.append(Part(here, how(select_heads(part.problem, places[1]), here)))
            else:
                changed.append(Part(here, how(part.problem, here)) if here else part)
        self.parts = changed

    def touch(self, heads: list[int] | None) -> None:
        """Notes that these heads may have another context than before; ``None``: all of them."""
        if heads is None or self.touched is None:
            self.touched = None
        else:
            self.touched |= set(heads)

    def average(self, heads: list[int] | None, batch: list[int] | None) -> None:
        """Notes that these heads' contexts become their mean."""
        self.averaged.append(heads)
        if batch is not None:
            self.unexplained = "for some entries of the batch the context is the mean over the queries"

    def context(self) -> tuple[Tensor, Tensor]:
        """(context [B,H,N,E], lse [B,H,N])."""
        contexts, sums = [], []
        for part in self.parts:
            made, lse = run(_computable(part.problem))
            assert lse is not None
            contexts.append(made)
            sums.append(lse)
        context, lse = contexts[0], sums[0]
        if len(contexts) > 1:
            order = [head for part in self.parts for head in part.heads]
            places = [order.index(head) for head in range(len(order))]
            context = torch.cat([one.to(contexts[0].dtype) for one in contexts], 1)[:, places]
            lse = torch.cat(sums, 1)[:, places]
        for change in self.after:
            context = change(context)
        return context, lse

    def context_beside(self, known: Tensor) -> Tensor:
        """The context [B,H,N,E], given what it was before: only heads that were touched are computed."""
        context = known.clone()
        for part in self.parts:
            here = [at for at, head in enumerate(part.heads) if self.touched is None or head in self.touched]
            if here:
                made, _ = run(_computable(select_heads(part.problem, here)), want_lse=False)
                context[:, [part.heads[at] for at in here]] = made.to(context.dtype)
        for change in self.after:
            context = change(context)
        return context

    def problem(self) -> Problem:
        """One problem with the weights of all heads.

        Raises:
            MemoryError: where that would take a dense matrix that is too large.
        """
        whole = self
        for heads in self.averaged:
            whole = Looking(list(whole.parts))
            whole.apart(heads, lambda problem, here: averaged(problem))
        if len(whole.parts) == 1:
            return whole.parts[0].problem
        return joined([(part.heads, part.problem) for part in whole.parts])


def _computable(problem: Problem) -> Problem:
    """The same with tensors of one dtype, as models need not have them."""
    assert problem.value is not None
    dtypes = {problem.query.dtype, problem.key.dtype, problem.value.dtype}
    if len(dtypes) > 1:
        dtype = problem.query.dtype
        for one in dtypes:
            dtype = torch.promote_types(dtype, one)
        problem = replace(
            problem, query=problem.query.to(dtype), key=problem.key.to(dtype), value=problem.value.to(dtype)
        )
    if problem.sinks is not None and problem.sinks.dim() != 1:
        problem = replace(problem, sinks=problem.sinks.flatten())
    if problem.dropout > 0 and problem.seed is None:
        seed = torch.randint(2**62, (), device=problem.query.device)
        problem = replace(problem, seed=seed)
    return problem

"""Attention whose rows' entropy is read as well: gradients of both go through one backward pass.

The autograd function has a third output, of zeros. Whoever asks for the entropy gets its value plus these, so
that its gradient arrives where the context's does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.backends import Problem, choose
from sightline.backends.contract import OfEntropy, Request, Work
from sightline.backends.derivatives import ATTENTION_AND_ENTROPY, Order
from sightline.backends.derivatives.order import PROBLEM, Arrays
from sightline.backends.problem import GRADIENTS, numbers_in_order, tensors_in_order
from sightline.call import operator
from sightline.common import dispatcher
from sightline.matrix.core import EntropyNode
from sightline.transforms import Derivative, Kernels, apply, numbers_of
from sightline.transforms.function import arrays_of


def attend_and_look(problem: Problem) -> tuple[Tensor, Tensor, EntropyNode] | None:
    """(context, lse, where the gradient of the entropy goes in), or ``None`` where that is of no use."""
    arrays = arrays_of(problem)
    quiet = dispatcher.is_quiet() and dispatcher.are_plain(arrays)
    if not quiet or isinstance(problem.softcap, Tensor) or not dispatcher.are_recorded(arrays):
        return None  # others take part: each of them sees the operators
    if dispatcher.saves_elsewhere():
        return None  # gradient checkpointing: the repeated pass is told nobody, and must save as much
    kernels = _Together()
    derivative = Derivative(ATTENTION_AND_ENTROPY, (numbers_of(problem),), kernels)
    context, lse, nothing = apply(derivative, *arrays)
    return context, lse, EntropyNode(nothing, kernels.know)


class _Together(Kernels):
    """One backward pass for the gradients of context, lse and entropy."""

    def __init__(self) -> None:
        self._entropy: Tensor | None = None

    def know(self, entropy: Tensor) -> None:
        """Keeps the entropy for the backward pass, once somebody has asked for it."""
        self._entropy = entropy

    def outputs(self, problems: tuple[Problem, ...], others: Arrays) -> tuple[Tensor, ...]:
        context, lse = operator.forward(problems[0])
        return context, lse, torch.zeros_like(lse)

    def derivative(
        self, order: Order, problems: tuple[Problem, ...], arrays: Arrays
    ) -> tuple[Tensor, ...] | None:
        step, problem = order.steps[0], problems[0]
        if step.kind == "forward":
            return None
        given = dict(zip(step.given, arrays[len(PROBLEM) :], strict=False))
        context, lse, _ = arrays[-3:]
        assert context is not None
        assert lse is not None
        grad_context, grad_entropy = given.get(0), given.get(2)
        grad_context = torch.zeros_like(context) if grad_context is None else grad_context
        if grad_entropy is None:
            wanted = [at in step.of for at in operator.SMOOTH]
            known = (grad_context, given.get(1), context, lse)
            found = operator.backward(wanted, known, tensors_in_order(problem), numbers_in_order(problem))
            return tuple(one for one in found if one is not None)
        names = [name for name in GRADIENTS if any(PROBLEM[at].name == name for at in step.of)]
        of_entropy = OfEntropy(self._entropy_of(problem, lse), grad_entropy)
        by_name = choose(problem).backward(
            problem, context, lse, grad_context, given.get(1), names, of_entropy
        )
        return tuple(by_name[name].to(getattr(problem, name).dtype) for name in names)

    def _entropy_of(self, problem: Problem, lse: Tensor) -> Tensor:
        if self._entropy is not None and self._entropy.shape == lse.shape:
            return self._entropy
        found = choose(problem, Work("entropy")).readouts(problem, lse, [Request("entropy")])["entropy"]
        assert isinstance(found, Tensor)
        return found

"""A function of problems and all of its derivatives as one autograd function, which any transform follows.

Its backward, its tangent and its vmap rule are the same function at another :class:`Order`, so transforms
compose to any depth. The function itself and its first derivatives run on a backend's kernels where there
are some, everything else block by block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from sightline.backends.derivatives import Order, evaluate
from sightline.backends.derivatives.order import PROBLEM, SOFTCAP, Arrays
from sightline.backends.problem import Problem, lse_dtype, numbers_in_order, problem_of, tensors_in_order
from sightline.common.check import number
from sightline.transforms.folding import one_by_one, together

Numbers: TypeAlias = tuple[float | None, ...]


class Kernels(Protocol):
    """What a backend's kernels do of a function and its derivatives."""

    def outputs(self, problems: tuple[Problem, ...], others: Arrays) -> tuple[Tensor, ...]:
        """The function itself, of plain tensors."""

    def derivative(
        self, order: Order, problems: tuple[Problem, ...], arrays: Arrays
    ) -> tuple[Tensor, ...] | None:
        """A first derivative, of plain tensors; ``None`` where it is computed block by block.

        Args:
            order: which one. After a reverse step's gradients stand the outputs, which are known.
            problems: what it is a function of.
            arrays: the order's inputs.
        """


@dataclass(frozen=True, eq=False, slots=True)  # no tuple, which PyTorch would take apart
class Derivative:
    """Which derivative, of a function of problems with which numbers."""

    order: Order
    numbers: tuple[Numbers, ...]
    kernels: Kernels | None  # None: everything block by block

    def at(self, order: Order) -> Derivative:
        """Another derivative of the same function."""
        return replace(self, order=order)

    def problems(self, arrays: Arrays) -> tuple[Problem, ...]:
        """The problems whose tensors are the first of ``arrays``."""
        found, count = [], len(PROBLEM)
        for at, numbers in enumerate(self.numbers):
            *tensors, softcap = arrays[at * count : (at + 1) * count]
            problem = problem_of((*tensors, *numbers))
            if softcap is not None:
                problem.softcap = number("softcap", float(softcap), above=0, remedy="None leaves it out.")
            found.append(problem)
        return tuple(found)


def numbers_of(problem: Problem) -> Numbers:
    """The numbers of a problem; a softcap that is a tensor is none of them."""
    if isinstance(problem.softcap, Tensor):
        problem = replace(problem, softcap=1.0)  # the tensor's own takes its place
    return numbers_in_order(problem)


def arrays_of(problem: Problem) -> Arrays:
    """The tensors of a problem, and its softcap where that is one."""
    softcap = problem.softcap if isinstance(problem.softcap, Tensor) else None
    return *tensors_in_order(problem), softcap


def apply(derivative: Derivative, *arrays: Tensor | None) -> tuple[Tensor, ...]:
    """The outputs of a derivative, under any transform."""
    found: tuple[Tensor, ...] = _Transformed.apply(derivative, *arrays)  # type: ignore[no-untyped-call]
    return found


def gradients(
    derivative: Derivative, arrays: Arrays, outputs: Arrays, given: Arrays, of: tuple[int, ...]
) -> list[Tensor | None]:
    """The gradients of the inputs ``of``, else ``None``; they have derivatives themselves.

    Args:
        derivative: of what.
        arrays: its inputs.
        outputs: its outputs.
        given: their gradients, ``None`` for one that has none.
        of: which inputs.
    """
    order = derivative.order
    there = tuple(at for at, one in enumerate(given) if one is not None)
    by_input: list[Tensor | None] = [None] * len(order.inputs)
    if not there or not of:
        return by_input
    # Kernels recompute the weights from the lse; what the blocks do needs no outputs.
    known = tuple(slot._replace(smooth=False) for slot in order.outputs) if not order.steps else ()
    reverse = derivative.at(order.reverse(of, there, known))
    found = apply(reverse, *arrays, *(given[at] for at in there), *(outputs if known else ()))
    for at, gradient in zip(of, found, strict=True):
        by_input[at] = gradient
    return by_input


class _Transformed(torch.autograd.Function):
    """One derivative."""

    @staticmethod
    def forward(derivative: Derivative, *arrays: Tensor | None) -> tuple[Tensor, ...]:
        return _computed(derivative, arrays)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.derivative, *arrays = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*arrays, *(() if ctx.derivative.order.steps else output))
        ctx.save_for_forward(*arrays)

    @staticmethod
    def backward(ctx: Any, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        order: Order = ctx.derivative.order
        arrays, outputs = _split(ctx.saved_tensors, len(order.inputs))
        needed = ctx.needs_input_grad[1:]
        of = tuple(at for at, slot in enumerate(order.inputs) if slot.smooth and needed[at])
        return None, *gradients(ctx.derivative, arrays, outputs, given, of)

    @staticmethod
    def jvp(ctx: Any, derivative: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        order: Order = ctx.derivative.order
        arrays, _ = _split(ctx.saved_tensors, len(order.inputs))
        of = tuple(at for at, slot in enumerate(order.inputs) if slot.smooth and tangents[at] is not None)
        if not of:
            return (None,) * len(order.outputs)
        forward = ctx.derivative.at(order.forward(of))
        return apply(forward, *arrays, *(tangents[at] for at in of))[len(order.outputs) :]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], derivative: Derivative, *arrays: Tensor | None
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        order, axes = derivative.order, in_dims[1:]

        def compute(*one: Tensor | None) -> tuple[Tensor, ...]:
            return apply(derivative, *one)

        alone = derivative.problems(tuple(None for _ in arrays))
        folded = len(alone) == 1 and alone[0].dropout == 0
        vmapped = together if folded else one_by_one
        outputs = vmapped(order, info.batch_size, axes, arrays, compute)
        return outputs, (0,) * len(outputs)


def _split(saved: Sequence[Tensor | None], count: int) -> tuple[Arrays, Arrays]:
    """What went in, and what came out."""
    return tuple(saved[:count]), tuple(saved[count:])


def _computed(derivative: Derivative, arrays: Arrays) -> tuple[Tensor, ...]:
    """The outputs of a derivative, of plain tensors, each in the dtype of what it is a derivative of."""
    order, problems = derivative.order, derivative.problems(arrays)
    found = None if derivative.kernels is None else _by_kernels(derivative.kernels, order, problems, arrays)
    if found is not None:
        return found
    given = tuple(None if one is None else one.dtype for one in arrays)
    dtypes = order.dtypes(given, lse_dtype(problems[0].query))
    return tuple(out.to(dtype) for out, dtype in zip(evaluate(order, problems, arrays), dtypes, strict=True))


def _by_kernels(
    kernels: Kernels, order: Order, problems: tuple[Problem, ...], arrays: Arrays
) -> tuple[Tensor, ...] | None:
    own = len(PROBLEM) * len(problems)
    if not order.steps:
        return kernels.outputs(problems, arrays[own:])
    step, *more = order.steps
    capped = any(at < own and at % len(PROBLEM) == SOFTCAP for at in step.of)
    return None if more or capped else kernels.derivative(order, problems, arrays)

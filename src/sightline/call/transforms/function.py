"""Attention and all of its derivatives as one autograd function, which PyTorch's transforms can go through.

Its backward, its tangent and its vmap rule are the same function at another :class:`Order`, so transforms
compose to any depth. The first order of each kind runs on a backend's kernels, higher ones block by block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from sightline.backends.derivatives import ATTENTION, Order, evaluate
from sightline.backends.derivatives.order import Arrays
from sightline.backends.problem import FIELDS, Problem, lse_dtype, numbers_in_order, tensors_in_order
from sightline.call import operator
from sightline.call.tangent import tangent
from sightline.call.transforms import duals
from sightline.call.transforms.folding import one_by_one, together
from sightline.common import dispatcher
from sightline.lowering.checks import positive

_SOFTCAP = len(FIELDS)
_BASE = len(ATTENTION.inputs)


@dataclass(frozen=True, eq=False, slots=True)  # no tuple, which PyTorch would take apart
class _Derivative:
    """Which derivative, of attention with which numbers."""

    order: Order
    numbers: tuple[float | None, ...]

    def at(self, order: Order) -> _Derivative:
        return _Derivative(order, self.numbers)

    def problem(self, arrays: Arrays) -> Problem:
        problem = operator.problem_of((*arrays[:_SOFTCAP], *self.numbers))
        softcap = arrays[_SOFTCAP]
        if softcap is not None:
            problem.softcap = positive("softcap", float(softcap))
        return problem


def attend(problem: Problem) -> tuple[Tensor, Tensor]:
    """(context, lse) under any transform."""
    softcap = problem.softcap if isinstance(problem.softcap, Tensor) else None
    arrays = (*tensors_in_order(problem), softcap)
    number = 1.0 if softcap is not None else problem.softcap  # the tensor's own takes its place
    derivative = _Derivative(ATTENTION, numbers_in_order(replace(problem, softcap=number)))
    primals, tangents = duals.apart(arrays)
    of = tuple(at for at, one in enumerate(tangents) if one is not None and ATTENTION.inputs[at].smooth)
    if not of:
        return cast(tuple[Tensor, Tensor], _apply(derivative, *arrays))
    # Both at once: a forward pass that already knows the tangents shares the weights with them.
    given = (*primals, *(tangents[at] for at in of))
    forward = derivative.at(ATTENTION.forward(of))
    bare = None if softcap is not None else dispatcher.out_of_forward_mode(given)
    if bare is None:
        context, lse, *rest = _apply(forward, *given)
    else:  # PyTorch's rules for a function take longer than attention of 200 tokens
        with dispatcher.outside():
            context, lse, *rest = _first_order(
                forward.order, derivative.problem(tuple(bare)), tuple(bare), True
            )
    return duals.joined(context, rest[0]), duals.joined(lse, rest[1])


def gradients(
    problem: Problem, outputs: Arrays, given: Arrays, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradient of each tensor of a problem, such that it has derivatives itself.

    Args:
        outputs: context and lse.
        given: their gradients.
        wanted: which of ``GRADIENTS``.
    """
    arrays = (*tensors_in_order(problem), None)
    of = tuple(at for at, want in zip(operator.SMOOTH, wanted, strict=True) if want)
    derivative = _Derivative(ATTENTION, numbers_in_order(problem))
    return _through(derivative, arrays, outputs, given, of)[:_SOFTCAP]


def _through(
    derivative: _Derivative, arrays: Arrays, outputs: Arrays, given: Arrays, of: tuple[int, ...]
) -> list[Tensor | None]:
    """The gradients of the inputs ``of``, ``None`` for the others, given those of the outputs."""
    order = derivative.order
    there = tuple(at for at, one in enumerate(given) if one is not None)
    by_input: list[Tensor | None] = [None] * len(order.inputs)
    if not there or not of:
        return by_input
    # Kernels recompute the weights from the lse; what the blocks do needs no outputs.
    known = tuple(slot._replace(smooth=False) for slot in order.outputs) if not order.steps else ()
    reverse = derivative.at(order.reverse(of, there, known))
    found = _apply(reverse, *arrays, *(given[at] for at in there), *(outputs if known else ()))
    for at, gradient in zip(of, found, strict=True):
        by_input[at] = gradient
    return by_input


def _apply(derivative: _Derivative, *arrays: Tensor | None) -> tuple[Tensor, ...]:
    found: tuple[Tensor, ...] = _Transformed.apply(derivative, *arrays)  # type: ignore[no-untyped-call]
    return found


class _Transformed(torch.autograd.Function):
    """One derivative of attention."""

    @staticmethod
    def forward(derivative: _Derivative, *arrays: Tensor | None) -> tuple[Tensor, ...]:
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
        return None, *_through(ctx.derivative, arrays, outputs, given, of)

    @staticmethod
    def jvp(ctx: Any, derivative: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        order: Order = ctx.derivative.order
        arrays, _ = _split(ctx.saved_tensors, len(order.inputs))
        of = tuple(at for at, slot in enumerate(order.inputs) if slot.smooth and tangents[at] is not None)
        if not of:
            return (None,) * len(order.outputs)
        forward = ctx.derivative.at(order.forward(of))
        return _apply(forward, *arrays, *(tangents[at] for at in of))[len(order.outputs) :]

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], derivative: _Derivative, *arrays: Tensor | None
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        order, axes = derivative.order, in_dims[1:]

        def compute(*one: Tensor | None) -> tuple[Tensor, ...]:
            return _apply(derivative, *one)

        folded = derivative.problem(tuple(None for _ in arrays)).dropout == 0
        vmapped = together if folded else one_by_one
        outputs = vmapped(order, info.batch_size, axes, arrays, compute)
        return outputs, (0,) * len(outputs)


def _split(saved: Sequence[Tensor | None], count: int) -> tuple[Arrays, Arrays]:
    """What went in, and what came out."""
    return tuple(saved[:count]), tuple(saved[count:])


def _computed(derivative: _Derivative, arrays: Arrays) -> tuple[Tensor, ...]:
    """The outputs of a derivative, of plain tensors, each in the dtype of what it is a derivative of."""
    order, problem = derivative.order, derivative.problem(arrays)
    if not order.steps:
        return operator.forward(problem)
    step, *more = order.steps
    if not more and _SOFTCAP not in step.of:
        return _first_order(order, problem, arrays)
    given = tuple(None if one is None else one.dtype for one in arrays)
    dtypes = order.dtypes(given, lse_dtype(problem.query))
    return tuple(out.to(dtype) for out, dtype in zip(evaluate(problem, order, arrays), dtypes, strict=True))


def _first_order(order: Order, problem: Problem, arrays: Arrays, bare: bool = False) -> tuple[Tensor, ...]:
    """Gradients or tangents by a backend's kernels; ``bare``: nobody takes part, and tangents are wanted."""
    step, others = order.steps[0], arrays[_BASE:]
    if step.kind == "forward":
        names = (ATTENTION.inputs[at].name for at in step.of)
        tangents = {name: one for name, one in zip(names, others, strict=True) if one is not None}
        return tangent(problem, tangents, bare)
    by_output = dict(zip(step.given, others, strict=False))
    context, lse = others[-2:]
    assert context is not None
    assert lse is not None
    grad_context = by_output.get(0)
    grad_context = torch.zeros_like(context) if grad_context is None else grad_context
    wanted = [at in step.of for at in operator.SMOOTH]
    given = (grad_context, by_output.get(1), context, lse)
    found = operator.backward(wanted, given, tensors_in_order(problem), numbers_in_order(problem))
    return tuple(one for one in found if one is not None)

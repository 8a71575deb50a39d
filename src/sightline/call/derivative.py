"""Attention under PyTorch's transforms: forward mode, torch.func, vmap, and derivatives of derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from sightline.backends.derivatives import ATTENTION, Order
from sightline.backends.derivatives.order import PROBLEM, SOFTCAP, Arrays
from sightline.backends.problem import Problem, numbers_in_order, tensors_in_order
from sightline.call import operator
from sightline.call.tangent import tangent
from sightline.common import dispatcher
from sightline.transforms import Derivative, Kernels, apply, duals, gradients, numbers_of
from sightline.transforms.function import arrays_of


def attend(problem: Problem) -> tuple[Tensor, Tensor]:
    """(context, lse) under any transform."""
    arrays = arrays_of(problem)
    derivative = _of_attention(problem)
    primals, tangents = duals.apart(arrays)
    of = tuple(at for at, one in enumerate(tangents) if one is not None and PROBLEM[at].smooth)
    if not of:
        return cast(tuple[Tensor, Tensor], apply(derivative, *arrays))
    # Both at once: a forward pass that already knows the tangents shares the weights with them.
    given = (*primals, *(tangents[at] for at in of))
    forward = derivative.at(ATTENTION.forward(of))
    bare = None if arrays[SOFTCAP] is not None else dispatcher.out_of_forward_mode(given)
    if bare is None:
        context, lse, *rest = apply(forward, *given)
    else:  # PyTorch's rules for a function take longer than attention of 200 tokens
        with dispatcher.outside():
            arrays = tuple(bare)
            (inside,) = forward.problems(arrays)
            context, lse, *rest = _first_order(forward.order, inside, arrays, True)
    return duals.joined(context, rest[0]), duals.joined(lse, rest[1])


def attention_gradients(
    problem: Problem, outputs: Arrays, given: Arrays, wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradient of each tensor of a problem, such that it has derivatives itself.

    Args:
        problem: whose softcap is a number.
        outputs: context and lse.
        given: their gradients.
        wanted: which of ``GRADIENTS``.
    """
    of = tuple(at for at, want in zip(operator.SMOOTH, wanted, strict=True) if want)
    return gradients(_of_attention(problem), arrays_of(problem), outputs, given, of)[:SOFTCAP]


class _AttentionKernels(Kernels):
    def outputs(self, problems: tuple[Problem, ...], others: Arrays) -> tuple[Tensor, ...]:
        return operator.forward(problems[0])

    def derivative(self, order: Order, problems: tuple[Problem, ...], arrays: Arrays) -> tuple[Tensor, ...]:
        return _first_order(order, problems[0], arrays)


_KERNELS = _AttentionKernels()


def _of_attention(problem: Problem) -> Derivative:
    return Derivative(ATTENTION, (numbers_of(problem),), _KERNELS)


def _first_order(order: Order, problem: Problem, arrays: Arrays, bare: bool = False) -> tuple[Tensor, ...]:
    """Gradients or tangents by a backend's kernels; ``bare``: nobody takes part, and tangents are wanted."""
    step, others = order.steps[0], arrays[len(PROBLEM) :]
    if step.kind == "forward":
        names = (PROBLEM[at].name for at in step.of)
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

"""A problem computed, with PyTorch's autograd told of it.

Three ways: through the operators where others take part in the call (compilation, modes, profilers, tensor
subclasses); by an autograd function without the dispatcher where only autograd does; and through
:mod:`sightline.call.derivative` under forward mode and torch.func.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.backends import choose
from sightline.backends.problem import NUMBERS, Problem, numbers_in_order, problem_of, tensors_in_order
from sightline.call import operator
from sightline.common import dispatcher


def run(problem: Problem, want_lse: bool = True) -> tuple[Tensor, Tensor | None]:
    """(context [B,H,N,E], lse [B,H,N]); gradients reach every floating tensor of the problem.

    Without ``want_lse`` the second may be ``None``.
    """
    tensors = tensors_in_order(problem)
    learned = isinstance(problem.softcap, Tensor)
    if not learned and dispatcher.is_quiet() and dispatcher.are_plain(tensors):
        if not dispatcher.are_recorded(tensors):
            return choose(problem).forward(problem, want_lse)
        recorded: tuple[Tensor, Tensor] = _Recorded.apply(*tensors, problem)  # type: ignore[no-untyped-call]
        return recorded
    if torch.compiler.is_compiling() and dispatcher.is_transformed_while_compiling():
        torch._dynamo.graph_break()  # the operator alone would have a tangent of 0
    if learned or dispatcher.is_transformed():
        from sightline.call import derivative  # late: few programs need it

        return derivative.attend(problem)
    result: tuple[Tensor, Tensor] = operator.attention_operator(*tensors, *numbers_in_order(problem))
    return result


_NO_NUMBERS = (None,) * len(NUMBERS)  # which have no gradient


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.numbers = inputs[len(operator.TENSORS) :]
    ctx.save_for_backward(*output, *inputs[: len(operator.TENSORS)])


def _gradients(ctx: Any, grad_context: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    """One gradient for each of the operator's inputs."""
    context, lse, *tensors = ctx.saved_tensors
    wanted = [ctx.needs_input_grad[at] for at in operator.SMOOTH]
    found = gradients(wanted, (grad_context, grad_lse, context, lse), tensors, ctx.numbers)
    of_inputs: list[Tensor | None] = [None] * len(operator.TENSORS)
    for at, gradient in zip(operator.SMOOTH, found, strict=True):
        of_inputs[at] = gradient
    return *of_inputs, *_NO_NUMBERS


def gradients(
    wanted: Sequence[bool],
    given: tuple[Tensor | None, Tensor | None, Tensor, Tensor],
    tensors: Sequence[Tensor | None],
    numbers: Sequence[float | None],
) -> list[Tensor | None]:
    """What :func:`sightline.call.operator.backward` gives, such that it may have derivatives itself.

    Args:
        given: the gradients of context and lse, of which one may be missing, then context and lse.
    """
    grad_context, grad_lse, context, lse = given
    recorded = dispatcher.are_recorded((*given, *tensors))
    if recorded and not torch.compiler.is_compiling():
        from sightline.call import derivative

        problem = problem_of((*tensors, *numbers))
        of_tensors = derivative.attention_gradients(problem, (context, lse), given[:2], wanted)
        return [of_tensors[at] for at in operator.SMOOTH]
    grad_context = torch.zeros_like(context) if grad_context is None else grad_context
    return operator.backward(list(wanted), (grad_context, grad_lse, context, lse), tensors, numbers)


operator.attention_operator.register_autograd(_gradients, setup_context=_save)


class _Recorded(torch.autograd.Function):
    """The same autograd rule for a call without the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        problem: Problem = inputs[-1]
        context, lse = choose(problem).forward(problem)
        assert lse is not None
        _save(ctx, (*inputs[:-1], *numbers_in_order(problem)), (context, lse))
        ctx.set_materialize_grads(False)
        return context, lse

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        grad_context, grad_lse = gradients
        return *_gradients(ctx, grad_context, grad_lse)[: len(operator.TENSORS)], None

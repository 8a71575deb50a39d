"""The PyTorch operators ``sightline::attention`` and its backward: fake kernels and the autograd rule.

An operator takes tensors and numbers only, so a Problem travels as its fields, in the order in which they are
described. With fake kernels the operators work under torch.compile, torch.export and inference_mode. The
backend is chosen when they run.

Where nobody but autograd takes part in a call, the same functions run without PyTorch's dispatcher between
(:mod:`sightline.common.dispatcher`): the dispatcher costs 35 to 120 µs a call, short attention itself 15 µs.
"""

from __future__ import annotations

from dataclasses import fields
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from sightline.backends import choose
from sightline.backends.problem import (
    FIELDS,
    GRADIENTS,
    NUMBERS,
    Problem,
    empty_context,
    empty_gradient,
    numbers_in_order,
    tensors_in_order,
)
from sightline.common import dispatcher
from sightline.common.zones import zone

_TENSORS = tuple(field.name for field in FIELDS)
# The arguments of an operator, tensors and then numbers, in the order of a Problem's fields.
_by_field = itemgetter(*((_TENSORS + NUMBERS).index(field.name) for field in fields(Problem)))
# Where among the tensors those stand that gradients reach.
_WANTED = tuple(at for at, field in enumerate(FIELDS) if field.gradient)


def run(problem: Problem, want_lse: bool = True) -> tuple[Tensor, Tensor | None]:
    """(context [B,H,N,E], lse [B,H,N]); gradients reach every floating tensor of the problem.

    Without ``want_lse`` the second may be ``None``.
    """
    tensors = tensors_in_order(problem)
    skips = dispatcher.is_quiet() and dispatcher.are_plain(tensors)
    if skips and not dispatcher.are_recorded(tensors):
        return choose(problem).forward(problem, want_lse)
    result: tuple[Tensor, Tensor] = (
        _Recorded.apply(*tensors, problem)  # type: ignore[no-untyped-call]
        if skips
        else _attention_operator(*tensors, *numbers_in_order(problem))
    )
    return result


def _problem_of(arguments: tuple[Any, ...]) -> Problem:
    """The problem that stands in an operator's arguments, which are its tensors and then its numbers."""
    return Problem(*_by_field(arguments))


def _arguments() -> str:
    """The problem as the arguments of an operator's schema."""
    tensors = [f"Tensor{'' if field.required else '?'} {field.name}" for field in FIELDS]
    numbers = [f"float{'?' if name == 'softcap' else ''} {name}" for name in NUMBERS]
    return ", ".join(tensors + numbers)


def _attention(*arguments: Any) -> tuple[Tensor, Tensor]:
    problem = _problem_of(arguments)
    with zone("forward"):
        context, lse = choose(problem).forward(problem)
    assert lse is not None
    return context, lse


_attention_operator = torch.library.custom_op(
    "sightline::attention", _attention, mutates_args=(), schema=f"({_arguments()}) -> (Tensor, Tensor)"
)


@_attention_operator.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    b, h, n, _ = query.shape
    lse = torch.float64 if query.dtype == torch.float64 else torch.float32
    return empty_context(query, value.shape[3]), query.new_empty((b, h, n), dtype=lse)


def _attention_backward(
    wanted: list[bool],
    grad_context: Tensor,
    grad_lse: Tensor | None,
    context: Tensor,
    lse: Tensor,
    *arguments: Any,
) -> tuple[Tensor, ...]:
    """The gradients of the fields that have some, in order; an empty tensor for one that is not wanted."""
    problem = _problem_of(arguments)
    names = [name for name, want in zip(GRADIENTS, wanted, strict=True) if want]
    with zone("backward"):
        gradients = choose(problem).backward(problem, context, lse, grad_context, grad_lse, names)
    return tuple(
        gradients[name].to(getattr(problem, name).dtype) if name in gradients else context.new_empty(0)
        for name in GRADIENTS
    )


_backward_operator = torch.library.custom_op(
    "sightline::attention_backward",
    _attention_backward,
    mutates_args=(),
    schema="(bool[] wanted, Tensor grad_context, Tensor? grad_lse, Tensor context, Tensor lse, "
    f"{_arguments()}) -> ({', '.join(['Tensor'] * len(GRADIENTS))})",
)


@_backward_operator.register_fake
def _(
    wanted: list[bool],
    grad_context: Tensor,
    grad_lse: Tensor | None,
    context: Tensor,
    lse: Tensor,
    *arguments: Any,
) -> tuple[Tensor, ...]:
    inputs = zip(GRADIENTS, (arguments[at] for at in _WANTED), wanted, strict=True)
    return tuple(
        empty_gradient(name, like, like.dtype) if want else context.new_empty(0)
        for name, like, want in inputs
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.numbers = inputs[len(_TENSORS) :]
    ctx.save_for_backward(*output, *inputs[: len(_TENSORS)])


def _gradients(ctx: Any, grad_context: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    """One gradient for each of the operator's inputs."""
    context, lse, *tensors = ctx.saved_tensors
    if grad_context is None:
        grad_context = torch.zeros_like(context)
    wanted = [ctx.needs_input_grad[at] for at in _WANTED]
    given = (grad_context, grad_lse, context, lse, *tensors)
    # Gradients of gradients are recorded; the operator then says that it has none.
    skips = dispatcher.is_quiet() and dispatcher.are_plain(given) and not dispatcher.are_recorded(given)
    backward = _attention_backward if skips else _backward_operator
    of_inputs: list[Tensor | None] = [None] * (len(_TENSORS) + len(NUMBERS))
    for at, gradient, want in zip(_WANTED, backward(wanted, *given, *ctx.numbers), wanted, strict=True):
        of_inputs[at] = gradient if want else None
    return tuple(of_inputs)


_attention_operator.register_autograd(_gradients, setup_context=_save)


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
        return *_gradients(ctx, grad_context, grad_lse)[: len(_TENSORS)], None

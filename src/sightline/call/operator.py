"""The PyTorch operators ``sightline::attention`` and its backward, with their fake kernels.

An operator takes tensors and numbers only, so a Problem travels as its fields, in the order in which they are
described. With fake kernels the operators work under torch.compile, torch.export and inference_mode. The
backend is chosen when they run.

Where nobody takes part in a call, the same functions run without PyTorch's dispatcher between
(:mod:`sightline.common.dispatcher`): the dispatcher costs 35 to 120 µs a call, short attention itself 15 µs.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    lse_dtype,
    numbers_in_order,
    problem_of,
    tensors_in_order,
)
from sightline.common import dispatcher
from sightline.common.zones import zone

TENSORS = tuple(field.name for field in FIELDS)
#: Where among the tensors those stand that gradients reach.
SMOOTH = tuple(at for at, field in enumerate(FIELDS) if field.gradient)


def skips_dispatcher(tensors: Sequence[Tensor | None]) -> bool:
    """Whether a computation on these tensors may run without an operator; autograd is not asked."""
    return dispatcher.is_quiet() and dispatcher.are_plain(tensors)


def arguments() -> str:
    """The problem as the arguments of an operator's schema."""
    tensors = [f"Tensor{'' if field.required else '?'} {field.name}" for field in FIELDS]
    numbers = [f"float{'?' if name == 'softcap' else ''} {name}" for name in NUMBERS]
    return ", ".join(tensors + numbers)


def _attention(*arguments: Any) -> tuple[Tensor, Tensor]:
    problem = problem_of(arguments)
    with zone("forward"):
        context, lse = choose(problem).forward(problem)
    assert lse is not None
    return context, lse


attention_operator = torch.library.custom_op(
    "sightline::attention", _attention, mutates_args=(), schema=f"({arguments()}) -> (Tensor, Tensor)"
)


@attention_operator.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    b, h, n, _ = query.shape
    return empty_context(query, value.shape[3]), query.new_empty((b, h, n), dtype=lse_dtype(query))


def _gradients(
    wanted: list[bool],
    grad_context: Tensor,
    grad_lse: Tensor | None,
    context: Tensor,
    lse: Tensor,
    *arguments: Any,
) -> tuple[Tensor | None, ...]:
    """The gradients of the fields that have some, in order; ``None`` for one that is not wanted."""
    problem = problem_of(arguments)
    names = [name for name, want in zip(GRADIENTS, wanted, strict=True) if want]
    with zone("backward"):
        gradients = choose(problem).backward(problem, context, lse, grad_context, grad_lse, names)
    return tuple(
        gradients[name].to(getattr(problem, name).dtype) if name in gradients else None for name in GRADIENTS
    )


def _attention_backward(wanted: list[bool], grad_context: Tensor, *rest: Any) -> tuple[Tensor, ...]:
    """The same with an empty tensor for ``None``, which an operator cannot give."""
    found = _gradients(wanted, grad_context, *rest)
    return tuple(grad_context.new_empty(0) if gradient is None else gradient for gradient in found)


backward_operator = torch.library.custom_op(
    "sightline::attention_backward",
    _attention_backward,
    mutates_args=(),
    schema="(bool[] wanted, Tensor grad_context, Tensor? grad_lse, Tensor context, Tensor lse, "
    f"{arguments()}) -> ({', '.join(['Tensor'] * len(GRADIENTS))})",
)


@backward_operator.register_fake
def _(
    wanted: list[bool],
    grad_context: Tensor,
    grad_lse: Tensor | None,
    context: Tensor,
    lse: Tensor,
    *arguments: Any,
) -> tuple[Tensor, ...]:
    inputs = zip(GRADIENTS, (arguments[at] for at in SMOOTH), wanted, strict=True)
    return tuple(
        empty_gradient(name, like, like.dtype) if want else context.new_empty(0)
        for name, like, want in inputs
    )


# --- the same with a Problem in hand ---------------------------------------------------------------------


def forward(problem: Problem) -> tuple[Tensor, Tensor]:
    """(context [B,H,N,E], lse [B,H,N]); autograd does not see it."""
    tensors = tensors_in_order(problem)
    run = _attention if skips_dispatcher(tensors) else attention_operator
    result: tuple[Tensor, Tensor] = run(*tensors, *numbers_in_order(problem))
    return result


def backward(
    wanted: list[bool],
    given: tuple[Tensor, Tensor | None, Tensor, Tensor],
    tensors: Sequence[Tensor | None],
    numbers: Sequence[float | None],
) -> list[Tensor | None]:
    """The gradients of ``GRADIENTS``, in order, ``None`` where one is not wanted; autograd does not see it.

    Args:
        wanted: one flag for each.
        given: the gradients of context and lse, then context and lse themselves.
        tensors: the problem's, in order, and its numbers.
    """
    run = _gradients if skips_dispatcher((*given, *tensors)) else backward_operator
    found = run(wanted, *given, *tensors, *numbers)
    return [gradient if want else None for gradient, want in zip(found, wanted, strict=True)]

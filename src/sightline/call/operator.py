"""The PyTorch operators ``sightline::attention`` and its backward: fake kernels and the autograd rule.

An operator takes tensors and numbers only, so a Problem travels as its fields. With fake kernels the
operators work under torch.compile, torch.export and inference_mode. The backend is chosen when they run.

Where nobody but autograd takes part in a call, the same functions run without PyTorch's dispatcher between
(:mod:`sightline.direct`): the dispatcher costs 35 to 120 µs a call, short attention itself 15 µs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sightline.backends import BACKENDS, choose
from sightline.backends.problem import GRADIENTS, Problem, empty_context, empty_gradient
from sightline.common import dispatcher as direct


def run(problem: Problem, want_lse: bool = True) -> tuple[Tensor, Tensor | None]:
    """(context [B,H,N,E], lse [B,H,N]); gradients reach every floating tensor of the problem.

    Without ``want_lse`` the second may be ``None``.
    """
    p = problem
    assert p.value is not None
    tensors = (
        p.query, p.key, p.value, p.ranges, p.visible, p.bias, p.slopes, p.table, p.offset, p.sinks, p.seed,
    )  # fmt: skip
    skips = direct.is_quiet() and direct.are_plain(tensors)
    if skips and not direct.are_recorded(tensors):
        return BACKENDS[choose(problem)].forward(problem, want_lse)  # type: ignore[no-any-return]
    result: tuple[Tensor, Tensor] = (
        _Recorded.apply(*tensors, problem)  # type: ignore[no-untyped-call]
        if skips
        else _attention_operator(*tensors, p.scale, p.softcap, p.dropout)
    )
    return result


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ranges: Tensor | None,
    visible: Tensor | None,
    bias: Tensor | None,
    slopes: Tensor | None,
    table: Tensor | None,
    offset: Tensor | None,
    sinks: Tensor | None,
    seed: Tensor | None,
    scale: float,
    softcap: float | None,
    dropout: float,
) -> tuple[Tensor, Tensor]:
    problem = Problem(
        query, key, value, scale, softcap, ranges, visible, bias, slopes, table, offset, sinks, dropout, seed
    )
    context, lse = BACKENDS[choose(problem)].forward(problem)
    return context, lse


_attention_operator = torch.library.custom_op("sightline::attention", _attention, mutates_args=())


@_attention_operator.register_fake
def _(query, key, value, *rest):  # type: ignore[no-untyped-def]
    b, h, n, _ = query.shape
    lse = torch.float64 if query.dtype == torch.float64 else torch.float32
    return empty_context(query, value.shape[3]), query.new_empty((b, h, n), dtype=lse)


def _attention_backward(
    grad_context: Tensor,
    grad_lse: Tensor | None,
    context: Tensor,
    lse: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ranges: Tensor | None,
    visible: Tensor | None,
    bias: Tensor | None,
    slopes: Tensor | None,
    table: Tensor | None,
    offset: Tensor | None,
    sinks: Tensor | None,
    seed: Tensor | None,
    scale: float,
    softcap: float | None,
    dropout: float,
    wanted: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    problem = Problem(
        query, key, value, scale, softcap, ranges, visible, bias, slopes, table, offset, sinks, dropout, seed
    )
    names = [name for name, want in zip(GRADIENTS, wanted, strict=True) if want]
    found = BACKENDS[choose(problem)].backward(problem, context, lse, grad_context, grad_lse, names)
    dq, dk, dv, dbias, dslopes, dtable, dsinks = (
        found[name].to(getattr(problem, name).dtype) if name in found else query.new_empty(0)
        for name in GRADIENTS
    )
    return dq, dk, dv, dbias, dslopes, dtable, dsinks


_backward_operator = torch.library.custom_op(
    "sightline::attention_backward", _attention_backward, mutates_args=()
)


@_backward_operator.register_fake
def _(grad_context, grad_lse, context, lse, *rest):  # type: ignore[no-untyped-def]
    query, key, value, _, _, bias, slopes, table, _, sinks, _, _, _, _, wanted = rest
    inputs = zip(GRADIENTS, (query, key, value, bias, slopes, table, sinks), wanted, strict=True)
    return tuple(
        empty_gradient(name, like, like.dtype) if want else query.new_empty(0) for name, like, want in inputs
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.scale, ctx.softcap, ctx.dropout = inputs
    ctx.save_for_backward(*output, *tensors)


def _gradients(ctx: Any, grad_context: Tensor | None, grad_lse: Tensor | None) -> tuple[Tensor | None, ...]:
    context, lse, *tensors = ctx.saved_tensors
    query, key, value, ranges, visible, bias, slopes, table, offset, sinks, seed = tensors
    if grad_context is None:
        grad_context = torch.zeros_like(context)
    wanted = [ctx.needs_input_grad[i] for i in (0, 1, 2, 5, 6, 7, 9)]
    given = (grad_context, grad_lse, context, lse, *tensors)
    # Gradients of gradients are recorded; the operator then says that it has none.
    skips = direct.is_quiet() and direct.are_plain(given) and not direct.are_recorded(given)
    found = (_attention_backward if skips else _backward_operator)(
        grad_context, grad_lse, context, lse, query, key, value, ranges, visible, bias, slopes, table, offset,
        sinks, seed, ctx.scale, ctx.softcap, ctx.dropout, wanted,
    )  # fmt: skip
    dq, dk, dv, dbias, dslopes, dtable, dsinks = (
        grad if want else None for grad, want in zip(found, wanted, strict=True)
    )
    return dq, dk, dv, None, None, dbias, dslopes, dtable, None, dsinks, None, None, None, None


_attention_operator.register_autograd(_gradients, setup_context=_save)


class _Recorded(torch.autograd.Function):
    """The same autograd rule for a call without the dispatcher."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        problem: Problem = inputs[-1]
        output: tuple[Tensor, Tensor] = BACKENDS[choose(problem)].forward(problem)
        _save(ctx, (*inputs[:-1], problem.scale, problem.softcap, problem.dropout), output)
        ctx.set_materialize_grads(False)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        of_tensors = _gradients(ctx, *gradients)[: len(ctx.needs_input_grad) - 1]
        return *of_tensors, None

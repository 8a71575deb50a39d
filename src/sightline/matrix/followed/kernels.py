"""Followed readouts and their gradients by the kernels of a backend.

A gradient is one of attention's own, with other vectors for values. Weights ``w`` of a row turn the gradients
``g`` of weights into those of logits, ``w · (g - Σ w g)``, and attention's are ``g = grad_context · value``:

    A @ x        values x, grad_context g
    Aᵀ @ x       values g, grad_context x, context A @ g (which is also the gradient of x)
    received     the same with x = 1
    mass         values 1 at each key's own segment, grad_context g
    lse          no values; the gradient of attention's own lse
    entropy      no values; g = -grad_entropy · (1 + ln w), which kernels know of
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.backends import Problem, Work, choose
from sightline.backends.contract import OfEntropy, Request
from sightline.backends.derivatives import Order
from sightline.backends.derivatives.order import PROBLEM, Arrays
from sightline.backends.problem import compute_dtype
from sightline.transforms import Kernels


class Asked(NamedTuple):
    """What a gradient is made from.

    Attributes:
        problem: whose matrix is read.
        others: what else went into the readout, the known lse last.
        output: the readout.
        grad: its gradient.
        wanted: names of the problem's fields, and "x" for the factor of a product.
    """

    problem: Problem
    others: Arrays
    output: Tensor
    grad: Tensor
    wanted: Collection[str]

    @property
    def lse(self) -> Tensor:
        """The rows' lse."""
        return _given(self.others[-1])


class ReadoutKernels(Kernels):
    """The kernels of one readout, by its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def outputs(self, problems: tuple[Problem, ...], others: Arrays) -> tuple[Tensor, ...]:
        """The readout, by the backend that is chosen for it."""
        return (_FORWARD[self.name](problems[0], others),)

    def derivative(
        self, order: Order, problems: tuple[Problem, ...], arrays: Arrays
    ) -> tuple[Tensor, ...] | None:
        """Gradients where a rule is there for them; tangents are computed block by block."""
        step, backward = order.steps[0], _BACKWARD.get(self.name)
        if step.kind == "forward" or backward is None:
            return None
        names = [slot.name for slot in order.base.inputs]
        others = arrays[len(PROBLEM) : len(names)]
        grad, output = map(_given, arrays[-2:])
        wanted = [names[at] for at in step.of]
        found = backward(Asked(problems[0], others, output, grad, wanted))
        return tuple(found[names[at]].to(_given(arrays[at]).dtype) for at in step.of)


def _given(array: Tensor | None) -> Tensor:
    """What a readout's rule has as its input, and nobody left out."""
    assert array is not None
    return array


# --- Readouts -----------------------------------------------------------------------------------------------


def _read_lse(problem: Problem, others: Arrays) -> Tensor:
    return _given(others[-1]).clone()  # an output of its own


def _request(name: str) -> Callable[[Problem, Arrays], Tensor]:
    def read(problem: Problem, others: Arrays) -> Tensor:
        request = Request(name)
        if name == "distance":
            request = request._replace(align=_given(others[0]))
        if name == "mass":
            request = request._replace(segments=_given(others[0]).expand(problem.shape[0], -1))
        answer = choose(problem, Work(name)).readouts(problem, _given(others[-1]), [request])[name]
        assert isinstance(answer, Tensor)
        if name == "mass":  # some last segments may have no key
            count = _given(others[1]).shape[0]
            answer = torch.nn.functional.pad(answer, (0, count - answer.shape[3]))
        return answer

    return read


def _multiply(problem: Problem, others: Arrays) -> Tensor:
    return _product(problem, _given(others[-1]), _given(others[0]))


def _multiply_transposed(problem: Problem, others: Arrays) -> Tensor:
    backend = choose(problem, Work("transposed_product"))
    return backend.transposed_product(problem, _given(others[-1]), _given(others[0]))


def _product(problem: Problem, lse: Tensor, x: Tensor) -> Tensor:
    return choose(problem, Work("product")).product(problem, lambda: lse, x)


_FORWARD: dict[str, Callable[[Problem, Arrays], Tensor]] = {
    "lse": _read_lse,
    "product": _multiply,
    "transposed_product": _multiply_transposed,
    **{name: _request(name) for name in ("entropy", "received", "distance", "mass")},
}


# --- Gradients ----------------------------------------------------------------------------------------------


def _of_lse(asked: Asked) -> dict[str, Tensor]:
    return _without_values(asked, asked.output, asked.grad, None)


def _of_entropy(asked: Asked) -> dict[str, Tensor]:
    return _without_values(asked, asked.lse, None, OfEntropy(asked.output, asked.grad))


def _without_values(
    asked: Asked, lse: Tensor, grad_lse: Tensor | None, of_entropy: OfEntropy | None
) -> dict[str, Tensor]:
    problem = asked.problem
    context, values = problem.query[..., :0], problem.key[..., :0]
    given = replace(problem, value=values), context, lse, context, grad_lse, asked.wanted
    return choose(problem).backward(*given, of_entropy)


def _of_product(asked: Asked) -> dict[str, Tensor]:
    return _through_values(asked, _given(asked.others[0]), asked.output, asked.grad)


def _of_transposed_product(asked: Asked) -> dict[str, Tensor]:
    return _through_queries(asked, _given(asked.others[0]))


def _of_received(asked: Asked) -> dict[str, Tensor]:
    ones = asked.grad.new_ones((1, 1, asked.problem.shape[2], 1))
    return _through_queries(asked._replace(grad=asked.grad[..., None]), ones)


def _of_mass(asked: Asked) -> dict[str, Tensor]:
    own = torch.nn.functional.one_hot(_given(asked.others[0]), asked.grad.shape[3])
    return _through_values(asked, own[:, None].to(asked.grad.dtype), asked.output, asked.grad)


def _through_queries(asked: Asked, x: Tensor) -> dict[str, Tensor]:
    """Of ``Aᵀ @ x``: ``x · A g`` is what attention with values g and the context's gradient x has."""
    context = _product(asked.problem, asked.lse, asked.grad)
    found = {}
    if any(name != "x" for name in asked.wanted):
        fields = [name for name in asked.wanted if name != "x"]
        found = _through_values(asked._replace(wanted=fields), asked.grad, context, x.expand_as(context))
    if "x" in asked.wanted:
        found["x"] = context.sum_to_size(x.shape)
    return found


def _through_values(asked: Asked, values: Tensor, context: Tensor, upstream: Tensor) -> dict[str, Tensor]:
    """Attention's own gradients with these values [B|1,H|1,M,F], in float32 or better; "x" is their own."""
    problem, per_head = _wide(asked.problem, values.shape[1] > 1)
    b, _, _, _ = problem.shape
    shape = (b, problem.key.shape[1], *values.shape[2:])
    problem = replace(problem, value=values.to(problem.query.dtype).expand(shape))
    names = ["value" if name == "x" else name for name in asked.wanted]
    dtype = problem.query.dtype
    found = choose(problem).backward(problem, context.to(dtype), asked.lse, upstream.to(dtype), None, names)
    if per_head and "key" in found:
        groups = asked.problem.key.shape[1]
        found["key"] = found["key"].unflatten(1, (groups, -1)).sum(2)
    if "value" in found:
        found["x"] = found.pop("value").sum_to_size(values.shape)
    return found


def _wide(problem: Problem, per_head: bool) -> tuple[Problem, bool]:
    """The problem in float32 or better, with a key for each query head if asked for; whether that is new."""
    dtype = compute_dtype(problem)
    key, group = problem.key.to(dtype), problem.group
    repeated = per_head and group > 1
    if repeated:
        key = key.repeat_interleave(group, dim=1)
    return replace(problem, query=problem.query.to(dtype), key=key), repeated


_BACKWARD: dict[str, Callable[[Asked], dict[str, Tensor]]] = {
    "lse": _of_lse,
    "entropy": _of_entropy,
    "product": _of_product,
    "transposed_product": _of_transposed_product,
    "received": _of_received,
    "mass": _of_mass,
}
#: Readouts whose gradients a backend's kernels give.
WITH_KERNELS = frozenset(_BACKWARD)

"""A readout such that derivatives of any order reach query, key, biases and sinks."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from sightline.backends.derivatives import Base, Order
from sightline.backends.problem import Problem
from sightline.matrix.followed.kernels import ReadoutKernels
from sightline.matrix.followed.rules import RULES
from sightline.transforms import Derivative, Kernels, apply, numbers_of
from sightline.transforms.function import arrays_of

_ORDERS = {name: (Order.of(base), ReadoutKernels(name)) for name, base in RULES.items()}


def followed(name: str, problem: Problem, *others: Tensor | None) -> Tensor:
    """A readout by name, as the kernels of ``RULES`` give it.

    Args:
        name: of ``RULES``.
        problem: whose matrix is read; without dropout.
        others: what else the rule takes.
    """
    order, kernels = _ORDERS[name]
    return computed(order, kernels, (replace(problem, value=None),), others)[0]


def computed(
    function: Base | Order,
    kernels: Kernels | None,
    problems: tuple[Problem, ...],
    others: tuple[Tensor | None, ...],
) -> tuple[Tensor, ...]:
    """The outputs of a function of problems, followed."""
    order = function if isinstance(function, Order) else Order.of(function)
    derivative = Derivative(order, tuple(map(numbers_of, problems)), kernels)
    arrays = [array for problem in problems for array in arrays_of(problem)]
    return apply(derivative, *arrays, *others)

"""Tensors laid out as kernels read them: the last axis without gaps, every row where 16 bytes begin.

A kernel that is given anything else raises, which would be held against it though it is right.
"""

from __future__ import annotations

import math

from torch import Tensor

from sightline.backends.problem import Problem, with_tensors

_BYTES = 16


def readable(tensor: Tensor) -> Tensor:
    """The tensor itself where kernels can read it, else a copy that they can."""
    # Where rows themselves are no multiple of 16 bytes long, those that follow one another are in step.
    step = math.gcd(tensor.shape[-1] * tensor.element_size(), _BYTES) // tensor.element_size()
    *strides, last = tensor.stride()
    fits = last == 1 and not any(stride % max(1, step) for stride in strides)
    if fits and tensor.data_ptr() % (max(1, step) * tensor.element_size()) == 0:
        return tensor
    return tensor.new_empty(tensor.shape).copy_(tensor)


def with_readable(problem: Problem) -> Problem:
    """The problem, whose query, key and value kernels can read."""
    given = {"query": problem.query, "key": problem.key, "value": problem.value}
    copies = {name: readable(one) for name, one in given.items() if one is not None}
    if all(copies[name] is given[name] for name in copies):
        return problem
    return with_tensors(problem, copies)

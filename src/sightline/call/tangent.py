"""The operator ``sightline::attention_tangent``: the forward pass and its tangent, for forward mode.

Registered when a transform first asks for it; the rules are those of :mod:`sightline.call.operator`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sightline.backends import choose
from sightline.backends.contract import Work
from sightline.backends.problem import (
    GRADIENTS,
    Problem,
    empty_context,
    lse_dtype,
    numbers_in_order,
    problem_of,
    tensors_in_order,
)
from sightline.call.operator import arguments, skips_dispatcher
from sightline.common.zones import zone


def _attention_tangent(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(context, lse, their tangents), given the tangents of the fields that gradients reach, in order."""
    count = len(GRADIENTS)
    problem = problem_of(given[count:])
    tangents = {name: one for name, one in zip(GRADIENTS, given[:count], strict=True) if one is not None}
    with zone("tangent"):
        return choose(problem, Work("tangent", moved=tuple(tangents))).tangent(problem, tangents)


tangent_operator = torch.library.custom_op(
    "sightline::attention_tangent",
    _attention_tangent,
    mutates_args=(),
    schema=f"({', '.join(f'Tensor? tangent_{name}' for name in GRADIENTS)}, {arguments()}) -> "
    "(Tensor, Tensor, Tensor, Tensor)",
)


@tangent_operator.register_fake
def _(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    query, _, value, *_ = given[len(GRADIENTS) :]
    context = empty_context(query, value.shape[3])
    lse = query.new_empty(query.shape[:3], dtype=lse_dtype(query))
    return context, lse, torch.empty_like(context), torch.empty_like(lse)


def tangent(
    problem: Problem, tangents: Mapping[str, Tensor], bare: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(context, lse, their tangents); autograd does not see it.

    Args:
        problem: what is differentiated.
        tangents: by name of the field.
        bare: the caller has seen to it that nobody takes part.
    """
    given = (*(tangents.get(name) for name in GRADIENTS), *tensors_in_order(problem))
    run = _attention_tangent if bare or skips_dispatcher(given) else tangent_operator
    result: tuple[Tensor, Tensor, Tensor, Tensor] = run(*given, *numbers_in_order(problem))
    return result

"""The same product as an operator, for torch.compile: it chooses when it runs.

Exported programs keep PyTorch's own product, so that they run without Sightline.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.products.choice import Ways, choose
from sightline.products.rules import gradients, product
from sightline.products.shapes import FORMS, ProductClass, example
from sightline.products.ways import DTYPES


def pays(dtype: torch.dtype) -> bool:
    """Whether layers of this dtype multiply in another way than PyTorch's here, so that the operator pays."""
    rows, inputs, outputs = example(ProductClass("forward", dtype, "many", "large"))
    return dtype in DTYPES and choose(dtype, rows, inputs * outputs, True) != ("pytorch",) * len(FORMS)


# What torch.compiler.assume_constant_result does, without loading the compiler for all who never compile.
pays._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    (way,) = _ways(rows, weight, recorded=False)
    with torch.autocast("cpu", enabled=False):
        return product(way, rows, weight, bias)


def _ways(rows: Tensor, weight: Tensor, recorded: bool) -> Ways:
    if not len(rows):
        return ("pytorch",) * (len(FORMS) if recorded else 1)
    return choose(rows.dtype, len(rows), weight.numel(), recorded)


linear_operator = torch.library.custom_op(
    "sightline::linear",
    _linear,
    mutates_args=(),
    schema="(Tensor rows, Tensor weight, Tensor? bias) -> Tensor",
)


@linear_operator.register_fake
def _(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return rows.new_empty((rows.shape[0], weight.shape[0]))


def _gradients(grad: Tensor, rows: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
    """An empty tensor for a gradient that is not wanted, as an operator cannot give ``None``."""
    with torch.autocast("cpu", enabled=False):
        found = gradients(_ways(rows, weight, recorded=True), wanted, grad, rows, weight)
    return tuple(grad.new_empty(0) if one is None else one for one in found)


gradients_operator = torch.library.custom_op(
    "sightline::linear_gradients",
    _gradients,
    mutates_args=(),
    schema="(Tensor grad, Tensor rows, Tensor weight, bool[] wanted) -> (Tensor, Tensor, Tensor)",
)


@gradients_operator.register_fake
def _(grad: Tensor, rows: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
    shapes = (rows.shape, weight.shape, weight.shape[:1])
    return tuple(grad.new_empty(shape if want else (0,)) for shape, want in zip(shapes, wanted, strict=True))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad)
    found = gradients_operator(grad, *ctx.saved_tensors, wanted)
    return tuple(one if want else None for one, want in zip(found, wanted, strict=True))


linear_operator.register_autograd(_backward, setup_context=_save)

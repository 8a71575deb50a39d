"""The same product as an operator, for torch.compile: it chooses when it runs.

Exported programs keep PyTorch's own product, so that they run without Sightline.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.products.choice import choose
from sightline.products.shapes import FORMS, example
from sightline.products.shapes import ProductClass as _Class
from sightline.products.ways import DTYPES, WAYS


def pays(dtype: torch.dtype) -> bool:
    """Whether layers of this dtype multiply in another way than PyTorch's here, so that the operator pays."""
    rows, inputs, outputs = example(_Class("forward", dtype, "many", "large"))
    return dtype in DTYPES and choose(dtype, rows, inputs * outputs, True) != ("pytorch",) * len(FORMS)


# What torch.compiler.assume_constant_result does, without loading the compiler for all who never compile.
pays._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    way = choose(x.dtype, rows.shape[0], weight.numel(), recorded=False)[0] if len(rows) else "pytorch"
    with torch.autocast("cpu", enabled=False):
        return WAYS[way].multiply(rows, weight, bias).view(*x.shape[:-1], weight.shape[0])


linear_operator = torch.library.custom_op(
    "sightline::linear", _linear, mutates_args=(), schema="(Tensor x, Tensor weight, Tensor? bias) -> Tensor"
)


@linear_operator.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def _gradients(grad: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, Tensor, Tensor]:
    """An empty tensor for a gradient that is not wanted, as an operator cannot give ``None``."""
    of_rows, rows = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
    ways = choose(x.dtype, rows.shape[0], weight.numel(), recorded=True) if len(rows) else ("pytorch",) * 3
    _, of_x, of_weight = ways
    found = [grad.new_empty(0) for _ in wanted]
    with torch.autocast("cpu", enabled=False):
        if wanted[0]:
            found[0] = WAYS[of_x].multiply(of_rows, weight.t(), None).view(x.shape)
        if wanted[1]:
            found[1] = WAYS[of_weight].multiply(of_rows.t(), rows.t(), None)
        if wanted[2]:
            found[2] = of_rows.sum(0)
    return found[0], found[1], found[2]


gradients_operator = torch.library.custom_op(
    "sightline::linear_gradients",
    _gradients,
    mutates_args=(),
    schema="(Tensor grad, Tensor x, Tensor weight, bool[] wanted) -> (Tensor, Tensor, Tensor)",
)


@gradients_operator.register_fake
def _(grad: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
    shapes = (x.shape, weight.shape, weight.shape[:1])
    return tuple(grad.new_empty(shape if want else (0,)) for shape, want in zip(shapes, wanted, strict=True))


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    wanted = list(ctx.needs_input_grad)
    found = gradients_operator(grad, *ctx.saved_tensors, wanted)
    return tuple(one if want else None for one, want in zip(found, wanted, strict=True))


linear_operator.register_autograd(_backward, setup_context=_save)

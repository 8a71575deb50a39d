"""A linear layer's product and its gradients, each by the way that is fastest here."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.common import dispatcher
from sightline.products import operator
from sightline.products.choice import Ways, choose, choose_packing
from sightline.products.packings import PackedWeight, can_be_followed
from sightline.products.rules import gradients, product
from sightline.products.ways import DTYPES

_PYTORCH = (("pytorch",), ("pytorch",) * 3)
#: Multiplications that take a few µs by any way; without instructions for a half they take longer.
_NO_MATTER = {torch.float32: 1 << 18, torch.bfloat16: 1 << 10, torch.float16: 1 << 10}


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, packed: PackedWeight | None = None
) -> Tensor:
    """``x · weightᵀ + bias``, as ``torch.nn.functional.linear``, by whichever way is fastest on this machine.

    Exact to rounding, with gradients of any order. Other devices, other dtypes, torch.func, exported
    programs and tensor subclasses get PyTorch's own, and so do products that take a few µs.

    Args:
        x: [..., C]; weight: [F,C]; bias: [F] or ``None``.
        packed: where the weight is kept packed, for products without gradients that are faster so.

    Returns:
        [..., F].

    Raises:
        RuntimeError: for shapes or dtypes that do not fit, as PyTorch's.

    Example:
        >>> import torch
        >>> from sightline.products import linear
        >>> linear(torch.ones(2, 3), torch.ones(4, 3)).shape
        torch.Size([2, 4])
    """
    if torch.compiler.is_compiling():
        return _compiled(x, weight, bias)
    if type(x) is not Tensor or torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return F.linear(x, weight, bias)
    if torch.is_autocast_enabled("cpu"):
        return _under_autocast(x, weight, bias)
    return _linear(x, weight, bias, packed)


def _compiled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """In a program that is compiled: an operator, where that pays; exported ones keep PyTorch's."""
    if dispatcher.is_exporting() or x.device.type != "cpu":
        return F.linear(x, weight, bias)
    if torch.is_autocast_enabled("cpu") and x.dtype in DTYPES and weight.dtype in DTYPES:
        dtype = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if not x.dim() or not x.shape[-1] or not _fit(x, weight, bias):
        return F.linear(x, weight, bias)
    if dispatcher.is_transformed_while_compiling() or not operator.pays(x.dtype):
        return F.linear(x, weight, bias)
    return _shaped(operator.linear_operator(_rows(x), weight, bias), x)


def _rows(x: Tensor) -> Tensor:
    """[..., C] -> [N,C]."""
    return x.reshape(-1, x.shape[-1])


def _shaped(product: Tensor, x: Tensor) -> Tensor:
    """[N,F] -> [..., F]."""
    return product if x.dim() == 2 else product.view(*x.shape[:-1], product.shape[1])


def _under_autocast(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """In the dtype that autocast wants; inside of it, operands of our own would be turned back."""
    if not all(given is None or given.dtype in DTYPES for given in (x, weight, bias)):
        return F.linear(x, weight, bias)
    dtype = torch.get_autocast_dtype("cpu")
    with torch.autocast("cpu", enabled=False):
        return _linear(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None, packed: PackedWeight | None = None) -> Tensor:
    # What is asked first is cheap: a small layer takes no longer than the questions.
    if x.dtype not in DTYPES or not x.dim() or x.numel() * len(weight) < _NO_MATTER[x.dtype]:
        return F.linear(x, weight, bias)
    recorded = dispatcher.are_recorded((x, weight, bias))
    if packed is not None and not recorded:
        found = _packed(x, weight, bias, packed)
        if found is not None:
            return found
    ways = choose(x.dtype, x.numel() // x.shape[-1], weight.numel(), recorded)
    if ways in _PYTORCH or not _fit(x, weight, bias):
        return F.linear(x, weight, bias)
    if not dispatcher.are_chosen_for((x, weight, bias)):
        return F.linear(x, weight, bias)
    if not recorded:
        return _shaped(product(ways[0], _rows(x), weight, bias), x)
    made: Tensor = _Linear.apply(_rows(x), weight, bias, ways)  # type: ignore[no-untyped-call]
    return _shaped(made, x)


def _packed(x: Tensor, weight: Tensor, bias: Tensor | None, packed: PackedWeight) -> Tensor | None:
    """By the weight that was packed; ``None`` where that does not pay, or is not for these tensors."""
    name = choose_packing(x.dtype, x.numel() // x.shape[-1], weight.numel())
    if name is None or not can_be_followed(weight) or not _fit(x, weight, bias):
        return None
    given = x, weight, bias
    if not (dispatcher.are_chosen_for(given) and dispatcher.are_readable(given)):
        return None
    return _shaped(packed.product(name, _rows(x), weight, bias), x)


def _fit(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the arguments are those of a product; PyTorch says what is wrong with others."""
    return (
        weight.dim() == 2
        and weight.dtype == x.dtype
        and weight.shape[1] == x.shape[-1]
        and (bias is None or (bias.dtype == x.dtype and bias.shape == weight.shape[:1]))
    )


class _Linear(torch.autograd.Function):
    """The product with the rule for its gradients."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, ways: Ways) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.ways = ways
        return product(ways[0], rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad[:3]
        plain = dispatcher.are_chosen_for((grad, rows, weight))
        # Second derivatives go through PyTorch's products, which it can differentiate.
        ways = ctx.ways if plain and not torch.is_grad_enabled() else ("pytorch",) * 3
        return (*gradients(ways, wanted, grad, rows, weight), None)

"""A layer or a model with random weights, the same in every process."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sightline.bench.case import DTYPES
from sightline.bench.peers.peer import PreparedCase

Direction = Literal["forward", "with backward", "training step"]

# The largest difference from float64, as a share of its norm. What is computed wrongly is off by about 1.
TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-1, "float16": 2e-2}


@dataclass(frozen=True)
class Whole:
    """A layer or a model, built.

    Attributes:
        module: as PyTorch, or Transformers, has it; from ``arguments`` it makes one tensor.
        arguments: what it is given.
        ours: the module -> one that computes the same by Sightline; it may be the same one, turned.
        attention: likewise, but only its attention by Sightline; ``None`` if nobody asks for that.
        loss: output -> what a training step lowers.
        compared: module -> the parameters whose gradients are compared, in an order that all have.
    """

    module: nn.Module
    arguments: tuple[Tensor, ...]
    ours: Callable[[nn.Module], nn.Module]
    attention: Callable[[nn.Module], nn.Module] | None = None
    loss: Callable[[Tensor], Tensor] = Tensor.mean
    compared: Callable[[nn.Module], Sequence[Tensor]] = lambda module: list(module.parameters())


@dataclass(frozen=True)
class WholeCase:
    """What is computed.

    Attributes:
        title: for the table.
        builder: "module:function", which makes a :class:`Whole` of the sizes.
        dtype: a name in DTYPES, of weights and arguments.
        direction: "forward" alone; "with backward", the gradients of arguments and parameters; or a
            "training step": forward, backward and AdamW.
        sizes: the builder's arguments, by name.
        flops: useful multiplications and additions; 0 where nobody has counted.
    """

    title: str
    builder: str
    dtype: str
    direction: Direction
    sizes: tuple[tuple[str, Any], ...]
    flops: float = 0.0

    def __str__(self) -> str:
        return self.title

    def build(self) -> Whole:
        """The same numbers on every call, made in the case's dtype, so that nothing is in memory twice."""
        module, function = self.builder.split(":")
        torch.manual_seed(0)
        with _default(DTYPES[self.dtype]):
            whole: Whole = getattr(importlib.import_module(module), function)(**dict(self.sizes))
        whole.module.train(self.direction == "training step")
        return whole


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def prepared(case: WholeCase, whole: Whole, module: nn.Module) -> PreparedCase:
    """A module of PyTorch's kind, ready to run as the case says."""
    if case.direction == "forward":
        return PreparedCase(lambda: _forward(module, whole.arguments), lambda output: [output])
    if case.direction == "training step":
        return _training_step(whole, module)
    floating = [one.requires_grad_() for one in whole.arguments if one.is_floating_point()]
    leaves = [*floating, *whole.compared(module)]

    def call() -> tuple[Tensor, ...]:
        output = module(*whole.arguments)
        return (output, *torch.autograd.grad(output, leaves, _grad(output.shape, output.dtype)))

    return PreparedCase(call, lambda found: [found[0].detach(), _flat(found[1:])])


def _forward(module: nn.Module, arguments: Sequence[Tensor]) -> Tensor:
    with torch.no_grad():
        output: Tensor = module(*arguments)
    return output


@functools.lru_cache(maxsize=2)
def _grad(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """What a backward pass starts from."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=torch.float32).to(dtype)


def _training_step(whole: Whole, module: nn.Module) -> PreparedCase:
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)

    def call() -> Tensor:
        optimiser.zero_grad()
        loss = whole.loss(module(*whole.arguments))
        loss.backward()
        optimiser.step()
        return loss.detach()

    def outputs(loss: Tensor) -> list[Tensor]:
        return [loss, _flat([one.grad for one in whole.compared(module) if one.grad is not None])]

    return PreparedCase(call, outputs)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


@functools.lru_cache(maxsize=1)
def expected(case: WholeCase) -> list[Tensor]:
    """The result in float64, by PyTorch."""
    whole = case.build()
    arguments = tuple(one.double() if one.is_floating_point() else one for one in whole.arguments)
    double = Whole(whole.module, arguments, whole.ours, loss=whole.loss, compared=whole.compared)
    run = prepared(case, double, whole.module.double())
    return [output.detach() for output in run.outputs(run.call())]


def apart(case: WholeCase, outputs: Sequence[Tensor]) -> float:
    """How far outputs are from float64, as a share of its norm: the largest of them.

    Raises:
        ValueError: if there are others than there should be.
    """
    wanted = expected(case)
    shapes = [[list(one.shape) for one in given] for given in (outputs, wanted)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"gave shapes {shapes[0]}, expected {shapes[1]}")
    return max(
        float((one.double() - right).norm() / right.norm())
        for one, right in zip(outputs, wanted, strict=True)
    )

"""The CUDA backend: attention itself by PyTorch's kernels, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from sightline.backends.contract import (
    ALL,
    Answer,
    Backend,
    Cells,
    Obstacle,
    OfEntropy,
    Over,
    Pass,
    Plan,
    PooledRegion,
    Request,
    Summand,
    Work,
)
from sightline.backends.cuda import trust
from sightline.backends.cuda.kernels import KERNELS, Kernel, WrongShapeError
from sightline.backends.cuda.pattern import pattern_of
from sightline.backends.cuda.sinks import sink_gradients, with_sinks
from sightline.backends.plain import Plain
from sightline.backends.problem import Problem, empty_context, empty_gradient
from sightline.backends.seen import finite, may_hide


class Cuda(Backend):
    """Attention by vendor kernels; what is read off the matrix is left to others."""

    name = "cuda"
    devices = ("cuda",)
    title = "PyTorch's CUDA kernels"
    kernels = "PyTorch's CUDA kernels"
    cost = 1

    def why_not(self, problem: Problem, work: Work) -> Obstacle | None:
        """It computes attention on CUDA, where a kernel takes the problem and gives the right lse."""
        device = problem.query.device
        if device.type != "cuda":
            return Obstacle(f"the tensors are on {device}, and it runs on CUDA", "Use .cuda()")
        if work.name != "attention":
            return Obstacle(f"it computes attention, and {work.name} is something else")
        tensors = [problem.key, problem.value]
        if any(one is not None and one.dtype != problem.query.dtype for one in tensors):
            return Obstacle("query, key and value differ in dtype")
        if not problem.query.numel() or not problem.key.numel():
            return Obstacle("there is nothing to compute")
        return None if self._kernel(problem) is not None else self._why_none(problem)

    def _kernel(self, problem: Problem) -> Kernel | None:
        """The first kernel that takes the problem and was not found wrong."""
        for kernel in KERNELS:
            if trust.dropped(kernel.name) is None and kernel.why_not(problem) is None:
                return kernel
        return None

    def _why_none(self, problem: Problem) -> Obstacle:
        reasons = []
        for kernel in KERNELS:
            obstacle, fault = kernel.why_not(problem), trust.dropped(kernel.name)
            reasons.append(f"{kernel.name}: {fault or (obstacle and obstacle.reason)}")
        return Obstacle("; ".join(reasons))

    def facts(self) -> Mapping[str, str]:
        """The card, and the kernels that were dropped."""
        if not torch.cuda.is_available():
            return {}
        dropped = [f"{one.name} ({trust.dropped(one.name)})" for one in KERNELS if trust.dropped(one.name)]
        found = {"cuda device": torch.cuda.get_device_name()}
        return found | ({"cuda kernels dropped": ", ".join(dropped)} if dropped else {})

    def plan(self, problem: Problem) -> Plan:
        """The first kernel that takes it; a full matrix or its part below the diagonal."""
        kernel = self._kernel(problem)
        assert kernel is not None
        arithmetic = str(problem.query.dtype).removeprefix("torch.")
        both = Pass(self.name, kernel.name, None, 1, arithmetic)
        n, m = problem.shape[2:]
        pattern = pattern_of(problem)
        left, right = (None, None) if pattern is None else pattern
        places = range(m - n, m)
        ends = (m if right is None else min(m, at + right + 1) for at in places)
        starts = (0 if left is None else max(0, at - left) for at in places)
        seen = sum(ends) - sum(starts)
        return Plan(both, both, seen / (n * m))

    def forward(self, problem: Problem, want_lse: bool = True) -> tuple[Tensor, Tensor | None]:
        """By a kernel; by plain PyTorch where none is right, or something hidden is not finite."""
        kernel = self._kernel(problem)
        while kernel is not None:
            try:
                context, lse = kernel.forward(problem)
            except WrongShapeError as error:
                trust.drop(kernel.name, str(error))
            else:
                if may_hide(problem) and not finite([context]):
                    break
                if trust.trusted(kernel.name, problem, context, lse):
                    context, lse = with_sinks(context, lse, problem.sinks)
                    assert problem.value is not None
                    room = empty_context(problem.query, problem.value.shape[3])
                    return (context if context.stride() == room.stride() else room.copy_(context)), lse
            kernel = self._kernel(problem)
        return Plain().forward(problem, want_lse)

    def forward_received(self, problem: Problem, received: Tensor) -> tuple[Tensor, Tensor]:
        """In plain PyTorch."""
        return Plain().forward_received(problem, received)

    def backward(
        self,
        problem: Problem,
        context: Tensor,
        lse: Tensor,
        grad_context: Tensor,
        grad_lse: Tensor | None,
        wanted: Collection[str],
        of_entropy: OfEntropy | None = None,
    ) -> dict[str, Tensor]:
        """By the kernel's own; by plain PyTorch where the lse or the entropy has a gradient."""
        kernel = self._kernel(problem)
        rest = {"query", "key", "value", "sinks"}
        if kernel is None or grad_lse is not None or of_entropy is not None or not set(wanted) <= rest:
            return Plain().backward(problem, context, lse, grad_context, grad_lse, wanted, of_entropy)
        found = dict(
            zip(("query", "key", "value"), kernel.backward(problem, context, lse, grad_context), strict=True)
        )
        if may_hide(problem) and not finite(found.values()):
            return Plain().backward(problem, context, lse, grad_context, None, wanted)
        if problem.sinks is not None and "sinks" in wanted:
            found["sinks"] = sink_gradients(problem.sinks, context, lse, grad_context)
        return {
            name: empty_gradient(name, getattr(problem, name), found[name].dtype).copy_(found[name])
            for name in wanted
        }

    def tangent(
        self, problem: Problem, tangents: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Is never asked."""
        raise NotImplementedError("PyTorch's CUDA kernels have no forward mode")

    def lse(self, problem: Problem, rows: slice = ALL) -> Tensor:
        """In plain PyTorch."""
        return Plain().lse(problem, rows)

    def readouts(self, problem: Problem, lse: Tensor, requests: Sequence[Request]) -> dict[str, Answer]:
        """In plain PyTorch."""
        return Plain().readouts(problem, lse, requests)

    def summed(self, problem: Problem, lse: Tensor, summand: Summand, over: Over) -> Tensor:
        """In plain PyTorch."""
        return Plain().summed(problem, lse, summand, over)

    def cells(
        self,
        problem: Problem,
        lse: Tensor,
        rows: slice,
        cols: slice,
        cells: Cells | None,
        fields: Collection[str],
    ) -> dict[str, Tensor]:
        """In plain PyTorch."""
        return Plain().cells(problem, lse, rows, cols, cells, fields)

    def pool(self, problem: Problem, lse: Tensor, region: PooledRegion) -> Tensor:
        """In plain PyTorch."""
        return Plain().pool(problem, lse, region)

    def product(self, problem: Problem, lse: Callable[[], Tensor], x: Tensor) -> Tensor:
        """In plain PyTorch."""
        return Plain().product(problem, lse, x)

    def transposed_product(self, problem: Problem, lse: Tensor, x: Tensor) -> Tensor:
        """In plain PyTorch."""
        return Plain().transposed_product(problem, lse, x)

"""The CUDA backend: attention itself by PyTorch's kernels, forward and backward."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from sightline.backends.contract import Obstacle, OfEntropy, Pass, Plan, Work
from sightline.backends.cuda import trust
from sightline.backends.cuda.kernel import Kernel, WrongShapeError
from sightline.backends.cuda.kernels import KERNELS
from sightline.backends.cuda.layout import readable, with_readable
from sightline.backends.cuda.sinks import sink_gradients, with_sinks
from sightline.backends.plain import Plain
from sightline.backends.problem import Problem, empty_context, empty_gradient
from sightline.backends.seen import finite, may_hide

#: The gradients that kernels give; those of biases are left to plain PyTorch.
_GRADIENTS = frozenset(("query", "key", "value", "sinks"))
#: An ulp of float32 is 2e-3 there, and so is the error of a weight.
_FAR = 1 << 14


class Cuda(Plain):
    """Plain PyTorch, whose attention is done by kernels of others."""

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

    def _kernels(self, problem: Problem) -> Iterator[Kernel]:
        """Those that take the problem and were not found wrong, one after another as they are."""
        for kernel in KERNELS:
            if trust.dropped(kernel.name) is None and kernel.why_not(problem) is None:
                yield kernel

    def _kernel(self, problem: Problem) -> Kernel | None:
        """The first of them."""
        return next(self._kernels(problem), None)

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
        """The first kernel that takes it."""
        kernel = self._kernel(problem)
        assert kernel is not None
        arithmetic = str(problem.query.dtype).removeprefix("torch.")
        both = Pass(self.name, kernel.name, None, 1, arithmetic)
        return Plan(both, both, kernel.computed(problem))

    def forward(self, problem: Problem, want_lse: bool = True) -> tuple[Tensor, Tensor]:
        """By a kernel; by plain PyTorch where none is right, or something hidden is not finite."""
        for kernel in self._kernels(problem):
            try:
                context, lse = kernel.forward(with_readable(problem))
            except torch.OutOfMemoryError:
                raise
            except WrongShapeError as error:
                trust.drop(kernel.name, str(error))
                continue
            except Exception as error:  # a compiler's, or a card's that the kernel was not made for
                trust.drop(kernel.name, trust.failure(error))
                continue
            if may_hide(problem) and not finite([context]):
                break
            if trust.trusted(kernel.name, problem, context, lse):
                assert problem.value is not None
                context, lse = with_sinks(context, lse, problem.sinks)
                room = empty_context(problem.query, problem.value.shape[3])
                return (context if context.stride() == room.stride() else room.copy_(context)), lse
        return super().forward(problem, want_lse)

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
        """By the kernel's own; by plain PyTorch where the lse, the entropy or a bias has a gradient."""
        found = None
        if grad_lse is None and of_entropy is None and set(wanted) <= _GRADIENTS:
            found = self._gradients(problem, context, lse, grad_context)
        if found is None:
            return super().backward(problem, context, lse, grad_context, grad_lse, wanted, of_entropy)
        if problem.sinks is not None and "sinks" in wanted:
            found["sinks"] = sink_gradients(problem.sinks, context, lse, grad_context)
        return {
            name: empty_gradient(name, getattr(problem, name), found[name].dtype).copy_(found[name])
            for name in wanted
        }

    def _gradients(
        self, problem: Problem, context: Tensor, lse: Tensor, grad_context: Tensor
    ) -> dict[str, Tensor] | None:
        """Those of query, key and value; ``None`` where no kernel gives them, or something is not finite."""
        if _is_lost(problem, lse):
            return None
        for kernel in self._kernels(problem):
            try:
                found = kernel.backward(
                    with_readable(problem), readable(context), lse, readable(grad_context)
                )
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                trust.drop(kernel.name, trust.failure(error))
                continue
            if may_hide(problem) and not finite(found):
                return None
            return dict(zip(("query", "key", "value"), found, strict=True))
        return None


def _is_lost(problem: Problem, lse: Tensor) -> bool:
    """Whether float32, in which kernels take an lse, has lost what was summed in some row.

    So it is where a bias hides all of a row by a number such as -1e30: each of its weights would be 1.
    """
    if problem.bias is None and problem.slopes is None and problem.table is None:
        return False
    size = lse.abs()
    return bool(((size > _FAR) & (size < torch.inf)).any())

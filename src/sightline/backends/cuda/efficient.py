"""PyTorch's memory-efficient kernel, which takes float32 as well.

Its lse is padded to a multiple of 32. ``is_causal`` of scaled_dot_product_attention counts from the top left,
ours from the bottom right; this kernel's operator takes either.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.backends.contract import Obstacle
from sightline.backends.cuda.kernel import HALVES, dtype_obstacle, expect, size_obstacle, terms_obstacle
from sightline.backends.cuda.pattern import Pattern, pattern_of
from sightline.backends.cuda.pieces import seen_share
from sightline.backends.problem import Problem, lse_dtype

_PADDED = 32  # rows to a multiple of which its lse is padded
_BYTES = 16
_FROM_BOTTOM_RIGHT = 2  # how it is to count a causal mask; 1 would be from the top left


class Efficient:
    """``aten::_efficient_attention_forward``."""

    name = "efficient"

    def why_not(self, problem: Problem) -> Obstacle | None:
        """Masks are full or causal."""
        if problem.value is None:
            return Obstacle("there is no value")
        known = dtype_obstacle(problem, (torch.float32, *HALVES)) or terms_obstacle(problem)
        known = known or _width_obstacle(problem) or _age_obstacle(problem)
        known = known or size_obstacle(*problem.shape[:2])
        if known is not None:
            return known
        pattern = pattern_of(problem)
        if pattern is None or not (pattern.is_causal or pattern == Pattern()):
            return Obstacle("the mask is neither full nor causal", "causal() on its own is")
        return None

    def computed(self, problem: Problem) -> float:
        """What is seen, but for the tiles of the diagonal."""
        return seen_share(problem)

    def forward(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Key and value heads are repeated for their query heads."""
        b, h, n, _ = problem.shape
        query, key, value = _interleaved(problem)
        context, lse, *_ = torch.ops.aten._efficient_attention_forward(
            query, key, value, None, None, None, None, None, 0.0, _mask_type(problem), True,
            scale=float(problem.scale),
        )  # fmt: skip
        expect("efficient", lse, (b, h, n), (b, h, -(-n // _PADDED) * _PADDED))
        return context.transpose(1, 2), lse.narrow(2, 0, n).to(lse_dtype(problem.query))

    def backward(
        self, problem: Problem, context: Tensor, lse: Tensor, grad_context: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of repeated heads are summed."""
        n, m = problem.shape[2:]
        query, key, value = _interleaved(problem)
        padded = torch.nn.functional.pad(lse.float(), (0, -n % _PADDED), value=torch.inf)
        nothing = torch.zeros((), dtype=torch.int64, device=query.device)
        of_query, of_key, of_value, _ = torch.ops.aten._efficient_attention_backward(
            grad_context.to(query.dtype).transpose(1, 2), query, key, value, None,
            context.to(query.dtype).transpose(1, 2), None, None, n, m, padded, 0.0, nothing, nothing,
            _mask_type(problem), False, scale=float(problem.scale),
        )  # fmt: skip
        groups = (problem.key.shape[1], problem.group)
        summed = (one.transpose(1, 2).float().unflatten(1, groups).sum(2) for one in (of_key, of_value))
        return of_query.transpose(1, 2), *summed


def _width_obstacle(problem: Problem) -> Obstacle | None:
    """Rows are read 16 bytes at a time."""
    assert problem.value is not None
    widths = problem.query.shape[3], problem.value.shape[3]
    step = _BYTES // problem.query.element_size()
    if any(width % step for width in widths):
        return Obstacle(f"heads are {widths[0]} wide, and it takes multiples of {step}, values alike")
    return None


def _age_obstacle(problem: Problem) -> Obstacle | None:
    """Its kernels for bfloat16 were made for the cards that brought it."""
    device = problem.query.device
    if problem.query.dtype != torch.bfloat16 or device.type != "cuda" or not torch.cuda.is_available():
        return None
    major, minor = torch.cuda.get_device_capability(device)
    if major >= 8:
        return None
    return Obstacle(f"the card is of compute capability {major}.{minor}, and its bfloat16 begins at 8.0")


def _mask_type(problem: Problem) -> int:
    """How the kernel is told of a causal mask."""
    return 0 if pattern_of(problem) == Pattern() else _FROM_BOTTOM_RIGHT


def _interleaved(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value [B,N,H,D], a key and value head for each query head."""
    assert problem.value is not None
    key, value = (
        one.unsqueeze(2).expand(-1, -1, problem.group, -1, -1).flatten(1, 2).transpose(1, 2)
        for one in (problem.key, problem.value)
    )
    return problem.query.transpose(1, 2), key, value

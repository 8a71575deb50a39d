"""PyTorch's kernels that give an lse: what each takes, and how it is called.

Known traps, each with a test: ``is_causal`` of scaled_dot_product_attention counts from the top left, and
ours from the bottom right; the efficient kernel's lse is padded to a multiple of 32; others come with a last
axis of size 1. The gradients of a context whose sinks were added afterwards are the kernel's own, given that
context and its lse: both make each weight, and δ, what they are.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from sightline.backends.contract import Obstacle
from sightline.backends.cuda.pattern import Pattern, pattern_of
from sightline.backends.problem import Problem, lse_dtype

_HALVES = (torch.float16, torch.bfloat16)
_WIDEST = 256
_PADDED = 32  # rows to a multiple of which the efficient kernel's lse is padded
_FROM_BOTTOM_RIGHT = 2  # how the efficient kernel is to count a causal mask; 1 would be from the top left


class Kernel(Protocol):
    """A kernel of somebody else.

    Attributes:
        name: what explanations call it.
    """

    name: str

    def why_not(self, problem: Problem) -> Obstacle | None:
        """Why it cannot do this, or ``None`` if it can."""

    def forward(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """(context [B,H,N,E], lse [B,H,N]), without sinks."""

    def backward(
        self, problem: Problem, context: Tensor, lse: Tensor, grad_context: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of query, key and value."""


class Flash:
    """FlashAttention, by ``torch.nn.attention.varlen.varlen_attn`` (FA3 and FA4 where PyTorch has them)."""

    name = "flash"

    def why_not(self, problem: Problem) -> Obstacle | None:
        """Halves, whose masks are full, causal or a window."""
        width, value = problem.query.shape[3], problem.value
        if problem.query.dtype not in _HALVES:
            return Obstacle(f"the dtype is {problem.query.dtype}, and it takes float16 and bfloat16")
        if value is None or value.shape[3] != width or width % 8 or width > _WIDEST:
            return Obstacle(
                f"heads are {width} wide, and it takes multiples of 8 up to {_WIDEST}, values alike"
            )
        if varlen_attention() is None:
            return Obstacle("this PyTorch has no varlen_attn with an lse", "PyTorch 2.10 or newer has it")
        return _no_terms(problem) or _no_pattern(problem)

    def forward(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Every batch entry is a sequence of its own."""
        assert problem.value is not None
        (b, h, n, m), attend = problem.shape, varlen_attention()
        assert attend is not None
        from torch.nn.attention.varlen import AuxRequest

        context, lse = attend(
            _packed(problem.query), _packed(problem.key), _packed(problem.value),
            _starts(b, n, problem.query), _starts(b, m, problem.query), n, m,
            return_aux=AuxRequest(lse=True), scale=float(problem.scale), window_size=_window(problem),
            enable_gqa=problem.group > 1,
        )  # fmt: skip
        _expect("flash", lse, (h, b * n))
        by_head = lse.view(h, b, n).transpose(0, 1)
        return context.view(b, n, h, -1).transpose(1, 2), by_head.to(lse_dtype(problem.query))

    def backward(
        self, problem: Problem, context: Tensor, lse: Tensor, grad_context: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """By the operator that autograd calls."""
        assert problem.value is not None
        b, h, n, m = problem.shape
        window = _window(problem)
        found = torch.ops.torch_attn._varlen_attn_backward(
            _packed(grad_context.to(problem.query.dtype)), _packed(problem.query), _packed(problem.key),
            _packed(problem.value), _packed(context),
            lse.float().transpose(0, 1).reshape(h, b * n).contiguous(),
            _starts(b, n, problem.query), _starts(b, m, problem.query), n, m, window == (-1, 0),
            torch.zeros(2, dtype=torch.uint64, device=context.device), float(problem.scale), list(window),
        )  # fmt: skip
        query, key, value = (one.unflatten(0, (b, -1)).transpose(1, 2) for one in found)
        return query, key, value


class Efficient:
    """PyTorch's memory-efficient kernel, which takes float32 as well."""

    name = "efficient"

    def why_not(self, problem: Problem) -> Obstacle | None:
        """Masks are full or causal."""
        if problem.query.dtype not in (torch.float32, *_HALVES):
            return Obstacle(f"the dtype is {problem.query.dtype}, and it takes float32, float16 and bfloat16")
        if problem.value is None:
            return Obstacle("there is no value")
        terms = _no_terms(problem)
        if terms is not None:
            return terms
        pattern = pattern_of(problem)
        if pattern is None or not (pattern.is_causal or pattern == Pattern()):
            return Obstacle("the mask is neither full nor causal", "causal() on its own is")
        return None

    def forward(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """Key and value heads are repeated for their query heads."""
        b, h, n, _ = problem.shape
        query, key, value = _interleaved(problem)
        context, lse, *_ = torch.ops.aten._efficient_attention_forward(
            query, key, value, None, None, None, None, None, 0.0, _mask_type(problem), True,
            scale=float(problem.scale),
        )  # fmt: skip
        _expect("efficient", lse, (b, h, n), (b, h, -(-n // _PADDED) * _PADDED))
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


def varlen_attention() -> Any:
    """PyTorch's varlen_attn; ``None`` where it is not there or gives no lse."""
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return None
    return varlen.varlen_attn if hasattr(varlen, "AuxRequest") else None


def _no_terms(problem: Problem) -> Obstacle | None:
    """What no kernel here knows."""
    terms = {
        "a bias": problem.bias is not None or problem.slopes is not None or problem.table is not None,
        "a softcap": problem.softcap is not None,
        "dropout": problem.dropout > 0,
        "a dense mask": problem.visible is not None,
    }
    there = [name for name, asked in terms.items() if asked]
    return (
        Obstacle(f"it knows no {' and no '.join(one.removeprefix('a ') for one in there)}") if there else None
    )


def _no_pattern(problem: Problem) -> Obstacle | None:
    if pattern_of(problem) is None:
        return Obstacle("the mask is neither full, causal nor a window, from the bottom right, of N <= M")
    return None


def _window(problem: Problem) -> tuple[int, int]:
    """Flash's window; -1 for an open side."""
    pattern = pattern_of(problem)
    assert pattern is not None
    return -1 if pattern.left is None else pattern.left, -1 if pattern.right is None else pattern.right


def _mask_type(problem: Problem) -> int:
    """How the efficient kernel is told of a causal mask."""
    return 0 if pattern_of(problem) == Pattern() else _FROM_BOTTOM_RIGHT


def _packed(tensor: Tensor) -> Tensor:
    """[B,H,N,D] → [B·N,H,D]."""
    return tensor.transpose(1, 2).flatten(0, 1)


def _starts(batch: int, length: int, like: Tensor) -> Tensor:
    """Where each batch entry starts in what is packed: [B + 1] int32."""
    return torch.arange(batch + 1, dtype=torch.int32, device=like.device) * length


def _interleaved(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value [B,N,H,D], a key and value head for each query head."""
    assert problem.value is not None
    key, value = (
        one.unsqueeze(2).expand(-1, -1, problem.group, -1, -1).flatten(1, 2).transpose(1, 2)
        for one in (problem.key, problem.value)
    )
    return problem.query.transpose(1, 2), key, value


class WrongShapeError(RuntimeError):
    """A kernel gave an lse of a shape that is not known of it."""


def _expect(name: str, lse: Tensor, *shapes: tuple[int, ...]) -> None:
    if tuple(lse.shape) not in shapes:
        raise WrongShapeError(f"{name}: its lse has the shape {list(lse.shape)}, not {list(shapes[0])}")


KERNELS: tuple[Kernel, ...] = (Flash(), Efficient())

"""FlexAttention, compiled: unions of key ranges, dense masks, biases by position or dense, and softcap.

Uncompiled it would make the whole matrix, so it is never called that way here. Its backward pass hangs on the
forward pass that it was compiled with, which therefore runs once more in ours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sightline.backends.contract import Obstacle
from sightline.backends.cuda.blocks import SIZE, blocks_of
from sightline.backends.cuda.kernel import HALVES, WIDEST, dtype_obstacle, expect, size_obstacle
from sightline.backends.problem import Problem, lse_dtype
from sightline.backends.triton import wing as triton
from sightline.common import compiling

_NARROWEST = 16
#: The most key ranges of a query: each is compared in every pair of a block that is seen in part.
_RANGES = 8
#: How many kinds of problems are compiled.
_KINDS = 64

#: (score, batch, head, query, key) → score, and (batch, head, query, key) → seen.
ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


class Flex:
    """What the others leave; a few seconds are spent on compiling for each kind of problem."""

    name = "flex"

    def why_not(self, problem: Problem) -> Obstacle | None:
        """All but dropout and narrow heads, in float32 or halves."""
        value, ranges = problem.value, problem.ranges
        wrong = dtype_obstacle(problem, (torch.float32, *HALVES))
        if wrong is not None:
            return wrong
        if value is None:
            return Obstacle("there is no value")
        widths = problem.query.shape[3], value.shape[3]
        if not _NARROWEST <= min(widths) <= max(widths) <= WIDEST:
            return Obstacle(
                f"heads are {widths[0]} wide, and it takes {_NARROWEST} to {WIDEST}, values alike"
            )
        if problem.dropout:
            return Obstacle("it knows no dropout")
        if isinstance(problem.softcap, Tensor):
            return Obstacle("the softcap is a tensor, and it takes a number")
        if ranges is not None and ranges.shape[3] > _RANGES:
            return Obstacle(f"a query has {ranges.shape[3]} key ranges, and it takes {_RANGES}")
        many = size_obstacle(*problem.shape[:2])
        if many is not None:
            return many
        if triton.missing() is not None:
            return Obstacle(str(triton.missing()), "pip install triton")
        return None

    def computed(self, problem: Problem) -> float:
        """The share of blocks in which anything is seen."""
        blocks = blocks_of(problem)
        return 1.0 if blocks is None else float((blocks.whole | blocks.part).double().mean())

    def forward(self, problem: Problem) -> tuple[Tensor, Tensor]:
        """By a kernel that PyTorch writes for the kind of problem."""
        assert problem.value is not None
        with torch.no_grad():
            context, lse = _run(problem, problem.query, problem.key, problem.value)
        expect("flex", lse, problem.shape[:3])
        return context, lse.to(lse_dtype(problem.query))

    def backward(
        self, problem: Problem, context: Tensor, lse: Tensor, grad_context: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of query, key and value; context and lse are computed again."""
        assert problem.value is not None
        leaves = [one.detach().requires_grad_() for one in (problem.query, problem.key, problem.value)]
        grad = grad_context.to(problem.query.dtype)
        with torch.enable_grad():
            own, own_lse = _run(problem, *leaves)
        if problem.sinks is None:
            query, key, value = torch.autograd.grad(own, leaves, grad)
            return query, key, value
        # context = own · share, share = σ(own_lse - sink), whose derivative is share · (1 - share).
        share = torch.exp(own_lse.detach() - lse.float()).nan_to_num(nan=0.0)
        of_lse = (grad.float() * context.float()).sum(-1) * (1 - share)
        of_own = (grad.float() * share[..., None]).to(own.dtype)
        query, key, value = torch.autograd.grad((own, own_lse), leaves, (of_own, of_lse))
        return query, key, value


@cache
def compiled() -> Any:
    """:func:`attend`, compiled: for one length at first, from the second length on for any."""
    return torch.compile(attend, fullgraph=True)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    score_mod: ScoreMod | None,
    block_mask: Any,
    scale: float,
    grouped: bool,
) -> tuple[Tensor, Tensor]:
    """(context, lse) by flex_attention."""
    from torch.nn.attention.flex_attention import AuxRequest, flex_attention

    context, aux = flex_attention(
        query, key, value, score_mod=score_mod, block_mask=block_mask, scale=scale, enable_gqa=grouped,
        return_aux=AuxRequest(lse=True),
    )  # fmt: skip
    lse: Any = aux.lse  # is there, as it was asked for
    return context, lse


def _run(problem: Problem, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    with compiling.kinds(_KINDS):
        context, lse = compiled()(
            query,
            key,
            value,
            score_mod(problem),
            block_mask(problem),
            float(problem.scale),
            problem.group > 1,
        )
    return context, lse


def block_mask(problem: Problem) -> Any:
    """PyTorch's BlockMask made from key ranges; ``None`` where nothing is hidden."""
    from torch.nn.attention.flex_attention import BlockMask

    seen, blocks = mask_mod(problem), blocks_of(problem)
    if seen is None or blocks is None:
        return None
    rows = (*_in_order(blocks.part), *_in_order(blocks.whole))
    columns = (*_in_order(blocks.part.mT), *_in_order(blocks.whole.mT))
    return BlockMask(problem.shape[2:], *rows, *columns, BLOCK_SIZE=(SIZE, SIZE), mask_mod=seen)


def _in_order(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row of blocks, how many there are, and which; those first."""
    there = blocks.to(torch.uint8, memory_format=torch.contiguous_format)
    return there.sum(-1).int(), there.argsort(dim=-1, descending=True, stable=True).int()


def mask_mod(problem: Problem) -> MaskMod | None:
    """Whether a pair may be seen; ``None`` where every one may."""
    ranges, visible = problem.ranges, problem.visible
    if ranges is None and visible is None:
        return None

    def seen(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        found = None
        if ranges is not None:
            for r in range(ranges.shape[3]):
                low, high = (_at(ranges[:, :, :, r, side], b, h, i) for side in (0, 1))
                inside = (j >= low) & (j < high)
                found = inside if found is None else found | inside
        if visible is not None:
            shown = _at(visible, b, h, i, j)
            found = shown if found is None else found & shown
        assert found is not None
        return found

    return seen


def score_mod(problem: Problem) -> ScoreMod | None:
    """Softcap and biases; ``None`` where there are none."""
    softcap, bias, slopes, table = problem.softcap, problem.bias, problem.slopes, problem.table
    if softcap is None and bias is None and slopes is None and table is None:
        return None
    offset = None if problem.offset is None else problem.offset.int()

    def changed(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        if softcap is not None:
            score = softcap * torch.tanh(score / softcap)
        if bias is not None:
            score = score + _at(bias, b, h, i, j)
        if offset is not None:
            step = j - i - _at(offset, b)
            if slopes is not None:
                score = score - _at(slopes, b, h) * step.abs()
            if table is not None:
                radius = table.shape[1] // 2
                score = score + _at(table, h, step.clamp(-radius, radius) + radius)
        return score

    return changed


def _at(tensor: Tensor, *places: Tensor) -> Tensor:
    """An entry of a tensor, whose axes of size 1 broadcast."""
    return tensor[tuple(0 if size == 1 else at for at, size in zip(places, tensor.shape, strict=True))]

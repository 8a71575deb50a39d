"""The chunked backend: attention in blocks of rows, in plain PyTorch.

Memory is linear in N: one block of full rows at a time, cut to the keys that its rows may see. Runs on any
device and dtype, forward and backward; serves double precision and gradient checks.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.backends.dropout import kept
from sightline.backends.problem import Problem, empty_context, empty_gradient
from sightline.backends.stages import (
    Block,
    compute_dtype,
    part,
    product,
    product_to_keys,
    run_stages,
    schedule,
    steps,
    table_index,
    weights_of,
)


def why_not(problem: Problem) -> str | None:
    """Why this backend cannot take the problem; it takes every one."""
    return None


def forward(problem: Problem, want_lse: bool = True) -> tuple[Tensor, Tensor]:
    """(context [B,H,N,E] in the query's dtype, lse [B,H,N] in float32 or better, wanted or not)."""
    assert problem.value is not None
    dtype = compute_dtype(problem)
    context = empty_context(problem.query, problem.value.shape[3]).zero_()
    lse = empty_lse(problem)
    for block in schedule(problem):
        if block.cols.start >= block.cols.stop:
            continue
        _, masked = run_stages(problem, block)
        top = _top(problem, block, masked)
        exponentials = torch.exp(masked - top[..., None])
        total = exponentials.sum(-1) + _sink_share(problem, top)
        if problem.dropout > 0:
            exponentials = exponentials * kept(problem, block)
        value = problem.value[block.batch, :, block.cols].to(dtype)
        summed = product(problem, exponentials, value) / total[..., None]
        context[block.batch, :, block.rows] = summed.masked_fill(total[..., None] == 0, 0).to(context.dtype)
        lse[block.batch, :, block.rows] = top + total.log()
    return context, lse


def lse(problem: Problem, rows: slice | None = None) -> Tensor:
    """lse [B,H,n] of some rows (all by default), without the weighted sum."""
    out = empty_lse(problem)
    for block in schedule(problem, rows):
        if block.cols.start >= block.cols.stop:
            continue
        _, masked = run_stages(problem, block)
        top = _top(problem, block, masked)
        total = torch.exp(masked - top[..., None]).sum(-1) + _sink_share(problem, top)
        out[block.batch, :, block.rows] = top + total.log()
    return out[:, :, rows] if rows is not None else out


def empty_lse(problem: Problem) -> Tensor:
    """lse of rows that see no key: -inf, or the sink's logit."""
    b, h, n, _ = problem.shape
    dtype = compute_dtype(problem)
    out = torch.full((b, h, n), -math.inf, dtype=dtype, device=problem.query.device)
    return out if problem.sinks is None else out.copy_(problem.sinks.to(dtype)[:, None].expand_as(out))


def _top(problem: Problem, block: Block, masked: Tensor) -> Tensor:
    """Each row's largest logit, sinks included; 0 for a row with none, so that exp(-inf - top) is 0."""
    top = masked.amax(-1)
    if problem.sinks is not None:
        top = torch.maximum(top, problem.sinks.to(top.dtype)[:, None])
    return top.masked_fill(top == -math.inf, 0)


def _sink_share(problem: Problem, top: Tensor) -> Tensor | float:
    return 0.0 if problem.sinks is None else torch.exp(problem.sinks.to(top.dtype)[:, None] - top)


@dataclass
class Gradients:
    """What the backward pass fills; a gradient of a bias term that nobody asked for is ``None``."""

    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor | None
    slopes: Tensor | None
    table: Tensor | None
    sinks: Tensor | None


def backward(
    problem: Problem,
    context: Tensor,
    lse: Tensor,
    grad_context: Tensor,
    grad_lse: Tensor | None,
    wanted: Collection[str],
) -> dict[str, Tensor]:
    """The wanted ones of the problem's GRADIENTS, by name; float32 or float64.

    By recomputation, block by block: ``weights = exp(masked - lse)``,
    ``d masked = weights · (d weights - δ)`` with ``δ = Σ_e context · d context - d lse``.
    """
    grads = _empty_gradients(problem, wanted)
    delta = (grad_context.to(lse.dtype) * context.to(lse.dtype)).sum(-1)
    if grad_lse is not None:
        delta = delta - grad_lse
    if grads.sinks is not None and problem.sinks is not None:
        share = weights_of(problem.sinks.to(lse.dtype)[:, None].expand_as(lse)[..., None], lse)[..., 0]
        grads.sinks -= (share * delta).sum((0, 2))
    for block in schedule(problem):
        if block.cols.start < block.cols.stop:
            _backward_block(problem, block, grads, lse, delta, grad_context)
    return {name: getattr(grads, name) for name in wanted}


def _backward_block(
    problem: Problem, block: Block, grads: Gradients, lse: Tensor, delta: Tensor, grad_context: Tensor
) -> None:
    assert problem.value is not None
    dtype = compute_dtype(problem)
    batch, rows, cols = block
    capped, masked = run_stages(problem, block)
    weights = weights_of(masked, lse[batch, :, rows])
    upstream = grad_context[batch, :, rows].to(dtype)
    grad_weights = product(problem, upstream, problem.value[batch, :, cols].to(dtype).transpose(-1, -2))
    applied = weights
    if problem.dropout > 0:
        pattern = kept(problem, block)
        applied, grad_weights = weights * pattern, grad_weights * pattern
    grads.value[batch, :, cols] += product_to_keys(problem, applied, upstream)

    grad_masked = weights * (grad_weights - delta[batch, :, rows, None])
    _bias_gradients(problem, block, grads, grad_masked)
    if problem.softcap is not None:
        grad_masked = grad_masked * (1 - (capped / problem.softcap) ** 2)
    grad_scores = grad_masked * problem.scale
    grads.query[batch, :, rows] = product(problem, grad_scores, problem.key[batch, :, cols].to(dtype))
    grads.key[batch, :, cols] += product_to_keys(
        problem, grad_scores, problem.query[batch, :, rows].to(dtype)
    )


def _bias_gradients(problem: Problem, block: Block, grads: Gradients, grad: Tensor) -> None:
    if grads.bias is not None:
        target = part(part(part(grads.bias, 0, block.batch), 2, block.rows), 3, block.cols)
        target += grad.sum_to_size(target.shape)
    if grads.slopes is not None:
        target = part(grads.slopes, 0, block.batch)
        target -= (grad * steps(problem, block).abs()[:, None]).sum((-1, -2)).sum_to_size(target.shape)
    if grads.table is not None:
        index = table_index(problem, block)
        for entry in range(grad.shape[0]):
            where = index[entry if index.shape[0] > 1 else 0].reshape(-1)
            per_head = grad[entry].flatten(1)
            if grads.table.shape[0] == 1:
                per_head = per_head.sum(0, keepdim=True)
            grads.table.index_add_(1, where, per_head)


def _empty_gradients(problem: Problem, wanted: Collection[str]) -> Gradients:
    dtype = compute_dtype(problem)

    def zeros(name: str) -> Tensor:
        return empty_gradient(name, getattr(problem, name), dtype).zero_()

    return Gradients(
        *(zeros(name) for name in ("query", "key", "value")),
        *(zeros(name) if name in wanted else None for name in ("bias", "slopes", "table", "sinks")),
    )

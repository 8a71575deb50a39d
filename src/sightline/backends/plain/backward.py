"""The backward pass in blocks of full rows, in plain PyTorch.

By recomputation, block by block: ``weights = exp(masked - lse)``,
``d masked = weights · (d weights - δ)`` with ``δ = Σ_e context · d context - d lse``.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial
from typing import NamedTuple

from torch import Tensor

from sightline.backends.block import MatrixBlock, steps, table_index
from sightline.backends.contract import OfEntropy
from sightline.backends.dropout import kept
from sightline.backends.grouped import grouped_product, product_to_keys
from sightline.backends.plain.forward import blocks
from sightline.backends.problem import Problem, compute_dtype, empty_gradient
from sightline.backends.schedule import Place
from sightline.backends.seen import finite, may_hide, over_seen
from sightline.backends.select import part
from sightline.backends.softmax import weights_of
from sightline.common.zones import zone

#: By name of the field; those of query, key and value are always there, others where they are wanted.
Gradients = dict[str, Tensor]


def backward(
    problem: Problem,
    context: Tensor,
    lse: Tensor,
    grad_context: Tensor,
    grad_lse: Tensor | None,
    wanted: Collection[str],
    of_entropy: OfEntropy | None = None,
) -> dict[str, Tensor]:
    """The wanted ones of the problem's GRADIENTS, by name; float32 or float64."""
    rows = _Rows(context, lse, grad_context, grad_lse, of_entropy)
    grads = _backward(problem, rows, wanted, careful=False)
    if may_hide(problem) and not finite(grads.values()):
        grads = _backward(problem, rows, wanted, careful=True)
    return {name: grads[name] for name in wanted}


class _Rows(NamedTuple):
    """What is known of all rows: [B,H,N,E] or [B,H,N]."""

    context: Tensor
    lse: Tensor
    grad_context: Tensor
    grad_lse: Tensor | None
    of_entropy: OfEntropy | None


def _backward(problem: Problem, rows: _Rows, wanted: Collection[str], careful: bool) -> Gradients:
    """``careful``: what is hidden is left out of the sums (see ``seen.py``)."""
    grads = _empty_gradients(problem, wanted)
    if "sinks" in grads:
        grads["sinks"] -= _sink_gradients(problem, rows, careful)
    for block in blocks(problem, lse=rows.lse):
        _through_block(block, grads, rows, careful)
    return grads


def _sink_gradients(problem: Problem, rows: _Rows, careful: bool) -> Tensor:
    """Σ weight · δ of the sinks, which have no value: [H]."""
    assert problem.sinks is not None
    lse = rows.lse
    delta = (rows.grad_context.to(lse.dtype) * rows.context.to(lse.dtype)).sum(-1)
    if careful:  # what a row that sees nothing is sent reaches nobody
        delta = delta.masked_fill((rows.context == 0).all(-1), 0)
    if rows.grad_lse is not None:
        delta = delta - rows.grad_lse
    sink = problem.sinks.to(lse.dtype)[:, None].expand_as(lse)
    weight = weights_of(sink[..., None], lse)[..., 0]
    if rows.of_entropy is not None:
        delta = delta + rows.of_entropy.grad * (rows.of_entropy.entropy - (1 - weight))
    return (weight * delta).sum((0, 2))


def _through_block(block: MatrixBlock, grads: Gradients, rows: _Rows, careful: bool) -> None:
    problem = block.problem
    assert problem.value is not None
    dtype = compute_dtype(problem)
    batch, queries, cols = block.place
    if problem.softcap is not None:
        block.stage("capped")  # needed again below
    applied = weights = block.weights
    hidden = block.masked == -math.inf if careful else None
    seen = None if hidden is None else ~hidden
    to_keys = partial(product_to_keys, groups=problem.key.shape[1])
    upstream = rows.grad_context[batch, :, queries].to(dtype)
    pattern = kept(problem, block.place) if problem.dropout > 0 else None
    with zone("grad_context"):
        value = problem.value[batch, :, cols].to(dtype)
        grad_weights = grouped_product(upstream, value.transpose(-1, -2))
        if pattern is not None:
            applied, grad_weights = weights * pattern, grad_weights * pattern
        grads["value"][batch, :, cols] += over_seen(to_keys, applied, upstream, seen)
    with zone("grad_weights"):
        delta = _delta(block, value, upstream, grad_weights, rows, pattern)
        grad_masked = grad_weights.sub_(delta[..., None]).mul_(weights)
        if rows.of_entropy is not None:
            grad_masked += _through_entropy(block, rows.of_entropy.grad)
        grad_masked = _hide(grad_masked, hidden)
    _through_logits(block, grads, grad_masked, hidden)


def _through_entropy(block: MatrixBlock, grad: Tensor) -> Tensor:
    """The gradient that a block's logits get from the entropy of its rows, [b,H,n,m]."""
    batch, queries, _ = block.place
    weights = block.weights
    logs = block.log_weights.masked_fill(weights == 0, 0)
    grad_weights = -(1 + logs) * grad[batch, :, queries].to(weights.dtype)[..., None]
    delta = (weights * grad_weights).sum(-1, keepdim=True)
    return grad_weights.sub_(delta).mul_(weights)


def _through_logits(block: MatrixBlock, grads: Gradients, grad_masked: Tensor, hidden: Tensor | None) -> None:
    """From the gradient of a block's logits to those of what they are made of; ``hidden``: with care."""
    problem = block.problem
    dtype = compute_dtype(problem)
    batch, queries, cols = block.place
    seen = None if hidden is None else ~hidden
    with zone("grad_biased"):
        _bias_gradients(problem, block.place, grads, grad_masked)
    with zone("grad_scores"):
        if problem.softcap is not None:
            grad_masked = _hide(grad_masked * (1 - (block.capped / problem.softcap) ** 2), hidden)
        grad_scores = grad_masked * problem.scale
        key, query = problem.key[batch, :, cols].to(dtype), problem.query[batch, :, queries].to(dtype)
        grads["query"][batch, :, queries] = over_seen(grouped_product, grad_scores, key, seen)
        to_keys = partial(product_to_keys, groups=problem.key.shape[1])
        grads["key"][batch, :, cols] += over_seen(to_keys, grad_scores, query, seen)


def _delta(
    block: MatrixBlock,
    value: Tensor,
    upstream: Tensor,
    grad_weights: Tensor,
    rows: _Rows,
    pattern: Tensor | None,
) -> Tensor:
    """δ of a block's rows, [b,H,n], counted from the gradient of each row's largest weight.

    Where that weight is 1, the context is its value: δ is that very gradient, and the two cancel to the last
    bit, as two sums of the same numbers in another order would not.
    """
    batch, queries, _ = block.place
    top = block.weights.argmax(-1, keepdim=True)
    b, h, n, _ = top.shape
    groups, width = value.shape[1], value.shape[3]
    index = top.reshape(b, groups, h // groups * n, 1).expand(-1, -1, -1, width)
    nearest = value.gather(2, index).reshape(b, h, n, width)
    if pattern is not None:
        nearest = nearest * pattern.gather(-1, top)
    rest = rows.context[batch, :, queries].to(value.dtype) - nearest
    delta = grad_weights.gather(-1, top)[..., 0] + (upstream * rest).sum(-1)
    return delta if rows.grad_lse is None else delta - rows.grad_lse[batch, :, queries]


def _hide(gradient: Tensor, hidden: Tensor | None) -> Tensor:
    """0 where hidden: in a row of NaN it is not yet."""
    return gradient if hidden is None else gradient.masked_fill(hidden, 0)


def _bias_gradients(problem: Problem, place: Place, grads: Gradients, grad: Tensor) -> None:
    if "bias" in grads:
        target = part(part(part(grads["bias"], 0, place.batch), 2, place.rows), 3, place.cols)
        target += grad.sum_to_size(target.shape)
    if "slopes" in grads:
        target = part(grads["slopes"], 0, place.batch)
        target -= (grad * steps(problem, place).abs()[:, None]).sum((-1, -2)).sum_to_size(target.shape)
    if "table" in grads:
        index = table_index(problem, place)
        for entry in range(grad.shape[0]):
            where = index[entry if index.shape[0] > 1 else 0].reshape(-1)
            per_head = grad[entry].flatten(1)
            if grads["table"].shape[0] == 1:
                per_head = per_head.sum(0, keepdim=True)
            grads["table"].index_add_(1, where, per_head)


def _empty_gradients(problem: Problem, wanted: Collection[str]) -> Gradients:
    dtype = compute_dtype(problem)
    names = dict.fromkeys(("query", "key", "value", *wanted))
    return {name: empty_gradient(name, getattr(problem, name), dtype).zero_() for name in names}

"""The backward pass in blocks of full rows, in plain PyTorch.

By recomputation, block by block: ``weights = exp(masked - lse)``,
``d masked = weights · (d weights - δ)`` with ``δ = Σ_e context · d context - d lse``.
"""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from sightline.backends.block import MatrixBlock, steps, table_index, weights_of
from sightline.backends.dropout import kept
from sightline.backends.grouped import grouped_product, product_to_keys
from sightline.backends.plain.forward import blocks
from sightline.backends.problem import Problem, compute_dtype, empty_gradient
from sightline.backends.schedule import Place
from sightline.backends.select import part
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
) -> dict[str, Tensor]:
    """The wanted ones of the problem's GRADIENTS, by name; float32 or float64."""
    grads = _empty_gradients(problem, wanted)
    delta = (grad_context.to(lse.dtype) * context.to(lse.dtype)).sum(-1)
    if grad_lse is not None:
        delta = delta - grad_lse
    if "sinks" in grads and problem.sinks is not None:
        sink = problem.sinks.to(lse.dtype)[:, None].expand_as(lse)
        grads["sinks"] -= (weights_of(sink[..., None], lse)[..., 0] * delta).sum((0, 2))
    for block in blocks(problem, lse=lse):
        _through_block(block, grads, delta, grad_context)
    return {name: grads[name] for name in wanted}


def _through_block(block: MatrixBlock, grads: Gradients, delta: Tensor, grad_context: Tensor) -> None:
    problem = block.problem
    assert problem.value is not None
    dtype = compute_dtype(problem)
    batch, rows, cols = block.place
    if problem.softcap is not None:
        block.stage("capped")  # needed again below
    applied = weights = block.weights
    upstream = grad_context[batch, :, rows].to(dtype)
    with zone("grad_context"):
        value = problem.value[batch, :, cols].to(dtype)
        grad_weights = grouped_product(upstream, value.transpose(-1, -2))
        if problem.dropout > 0:
            pattern = kept(problem, block.place)
            applied, grad_weights = weights * pattern, grad_weights * pattern
        grads["value"][batch, :, cols] += product_to_keys(applied, upstream, value.shape[1])
    with zone("grad_weights"):
        grad_masked = weights * (grad_weights - delta[batch, :, rows, None])
    with zone("grad_biased"):
        _bias_gradients(problem, block.place, grads, grad_masked)
    with zone("grad_scores"):
        if problem.softcap is not None:
            grad_masked = grad_masked * (1 - (block.capped / problem.softcap) ** 2)
        grad_scores = grad_masked * problem.scale
        key, query = problem.key[batch, :, cols].to(dtype), problem.query[batch, :, rows].to(dtype)
        grads["query"][batch, :, rows] = grouped_product(grad_scores, key)
        grads["key"][batch, :, cols] += product_to_keys(grad_scores, query, key.shape[1])


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

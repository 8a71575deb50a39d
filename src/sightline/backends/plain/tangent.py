"""The forward pass and its tangent in blocks of full rows, in plain PyTorch.

What the logits gain, ``d masked``, moves each row's weights: ``d weights = weights · (d masked - μ)`` with
``μ = Σ weights · d masked``, which is also the tangent of the lse.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sightline.backends.block import MatrixBlock, hidden_of, steps, table_index
from sightline.backends.derivatives.tangent import Four, of_seen, only_seen
from sightline.backends.dropout import kept
from sightline.backends.grouped import grouped_product
from sightline.backends.plain.forward import blocks, forward
from sightline.backends.problem import Problem, compute_dtype, empty_context
from sightline.backends.select import part
from sightline.backends.softmax import weights_of
from sightline.common.zones import zone

Tangents = Mapping[str, Tensor]


def tangent(problem: Problem, tangents: Tangents) -> Four:
    """(context, lse, their tangents), the lse and its tangent in float64 where the device has it."""
    found = _tangent(problem, tangents)
    return found if only_seen(problem, found) else of_seen(problem, tangents)


def _tangent(problem: Problem, tangents: Tangents) -> Four:
    assert problem.value is not None
    context, lse = forward(problem)
    of_context = empty_context(problem.query, problem.value.shape[3]).zero_()
    of_lse = torch.zeros_like(lse)
    of_sinks = tangents.get("sinks")
    if of_sinks is not None and problem.sinks is not None:
        sink = problem.sinks.to(lse.dtype)[:, None].expand_as(lse)
        of_lse += weights_of(sink[..., None], lse)[..., 0] * of_sinks.to(lse.dtype)[:, None]
    for block in blocks(problem, lse=lse):
        place = block.place
        moved = _moved_logits(block, tangents)
        with zone("weights"):
            weights = block.weights
            mean = of_lse[place.batch, :, place.rows]
            mean += (weights * moved).sum(-1)
            if problem.dropout > 0:
                weights = weights * kept(problem, place)
        of_context[place.batch, :, place.rows] = _moved_context(
            block, weights, moved - mean[..., None], tangents
        )
    return context, lse, of_context, of_lse


def _moved_logits(block: MatrixBlock, tangents: Tangents) -> Tensor:
    """d masked, [b,H,n,m]: 0 where a key is hidden."""
    problem, place = block.problem, block.place
    with zone("scores"):
        moved = _moved_scores(block, tangents) * problem.scale
    if problem.softcap is not None:
        with zone("capped"):
            moved = moved * (1 - (block.capped / problem.softcap) ** 2)
    with zone("biased"):
        moved = moved + _moved_bias(block, tangents)
    with zone("masked"):
        hidden = hidden_of(problem, place)
        return moved if hidden is None else moved.masked_fill(hidden, 0)


def _moved_scores(block: MatrixBlock, tangents: Tangents) -> Tensor:
    problem, (batch, rows, cols) = block.problem, block.place
    dtype = compute_dtype(problem)
    moved = torch.zeros(block.shape, dtype=dtype, device=problem.query.device)
    if "query" in tangents:
        key = problem.key[batch, :, cols].to(dtype)
        moved += grouped_product(tangents["query"][batch, :, rows].to(dtype), key.transpose(-1, -2))
    if "key" in tangents:
        query = problem.query[batch, :, rows].to(dtype)
        moved += grouped_product(query, tangents["key"][batch, :, cols].to(dtype).transpose(-1, -2))
    return moved


def _moved_bias(block: MatrixBlock, tangents: Tangents) -> Tensor:
    problem, place = block.problem, block.place
    dtype = compute_dtype(problem)
    moved = torch.zeros((), dtype=dtype, device=problem.query.device)
    if "bias" in tangents:
        moved = moved + part(part(part(tangents["bias"], 0, place.batch), 2, place.rows), 3, place.cols).to(
            dtype
        )
    if "slopes" in tangents:
        slopes = part(tangents["slopes"], 0, place.batch).to(dtype)
        moved = moved - slopes[..., None, None] * steps(problem, place).abs()[:, None]
    if "table" in tangents:
        moved = moved + tangents["table"].to(dtype)[:, table_index(problem, place)].movedim(0, 1)
    return moved


def _moved_context(block: MatrixBlock, weights: Tensor, moved: Tensor, tangents: Tangents) -> Tensor:
    problem, (batch, _, cols) = block.problem, block.place
    assert problem.value is not None
    with zone("context"):
        context = grouped_product(weights * moved, problem.value[batch, :, cols].to(weights.dtype))
        if "value" in tangents:
            context = context + grouped_product(weights, tangents["value"][batch, :, cols].to(weights.dtype))
        return context.to(problem.query.dtype)

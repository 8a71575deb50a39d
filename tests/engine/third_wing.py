"""A third backend: the whole matrix in float64, kept as an example of what a backend has to offer."""

from __future__ import annotations

import math

import torch

from sightline.backends.contract import ALL, Obstacle, Pass, Plan, Values
from sightline.backends.dropout import kept
from sightline.backends.picture import cell_of
from sightline.backends.problem import empty_context, empty_gradient
from sightline.backends.schedule import Place
from sightline.biases import Bias
from sightline.masks import Mask
from sightline.positions.key_ranges import contains
from sightline.reference import attention, seen_product

_MOST = 1 << 24


class Lowered(Mask, Bias):
    """A lowered problem's mask and bias, as the definition reads them."""

    def __init__(self, problem):
        self.problem = problem

    def visible(self, shape, device):
        seen = torch.ones((1, 1, 1, 1), dtype=torch.bool)
        if self.problem.ranges is not None:
            seen = seen & contains(self.problem.ranges, slice(0, shape[3]))
        return seen if self.problem.visible is None else seen & self.problem.visible

    def dense(self, shape, device):
        p, total = self.problem, torch.zeros((1, 1, 1, 1), dtype=torch.float64)
        if p.bias is not None:
            total = total + p.bias.double()
        if p.offset is not None:
            step = torch.arange(shape[3]) - torch.arange(shape[2])[:, None] - p.offset[:, None, None]
            if p.slopes is not None:
                total = total - p.slopes.double()[..., None, None] * step.abs()[:, None]
            if p.table is not None:
                radius = p.table.shape[1] // 2
                total = total + p.table.double()[:, step.clamp(-radius, radius) + radius].movedim(0, 1)
        return total


def pattern_of(problem):
    """What dropout multiplies the weights with."""
    if problem.dropout == 0:
        return torch.ones(problem.shape, dtype=torch.float64)
    b, _, n, m = problem.shape
    return kept(problem, Place(slice(0, b), slice(0, n), slice(0, m))).double()


def stages_of(problem, pattern=None):
    """Every stage of a problem; the weights alone need no value."""
    lowered = Lowered(problem)
    return attention(
        problem.query,
        problem.key,
        problem.key if problem.value is None else problem.value,
        mask=lowered,
        bias=lowered,
        scale=problem.scale,
        softcap=problem.softcap,
        sinks=problem.sinks,
        kept=pattern,
    )


def _by_cell(weights, one_hot):
    """Sums of the weights of each cell; a NaN reaches its own alone."""
    found = weights.where(weights.isfinite(), 0) @ one_hot
    return found.masked_fill((~weights.isfinite()).double() @ one_hot > 0, math.nan)


class Definition:
    """The reference as a backend: exact and quadratic."""

    name = "definition"
    devices = ()
    title = "the definition"
    kernels = "the definition"
    cost = 1000

    def why_not(self, problem, work):
        if math.prod(problem.shape) > _MOST:
            return Obstacle(f"it holds the whole matrix, and this one has more than {_MOST:,} entries")
        if work.name == "tangent":
            return Obstacle("it has no tangents")
        return Obstacle("autograd cannot follow it") if work.gradients else None

    def facts(self):
        return {}

    def plan(self, problem):
        both = Pass(self.name, "whole", None, 1, "float64")
        return Plan(both, both, 1.0)

    def forward_bare(self, bare, want_lse):
        """No shorter way than forward's."""
        return None

    def forward(self, problem, want_lse=True):
        stages = stages_of(problem, pattern_of(problem))
        context = empty_context(problem.query, problem.value.shape[3]).copy_(stages.context)
        return context, stages.lse

    def forward_received(self, problem, received):
        context, lse = self.forward(problem)
        sums = stages_of(problem).weights.sum(2)
        received += sums.unflatten(1, (received.shape[1], -1)).sum(2) if sums.numel() else 0
        return context, lse

    def backward(self, problem, context, lse, grad_context, grad_lse, wanted, of_entropy=None):
        p, pattern = problem, pattern_of(problem)
        stages = stages_of(p, pattern)
        b, h, n, m = p.shape
        upstream, value = grad_context.double(), p.value.double().repeat_interleave(p.group, 1)
        seen = stages.masked != -math.inf
        # What a row that sees nothing is sent reaches nobody.
        delta = (upstream * stages.context).where(seen.any(-1, keepdim=True), 0).sum(-1)
        if grad_lse is not None:
            delta = delta - grad_lse.double()
        of_logs = torch.zeros_like(stages.weights)
        if of_entropy is not None:
            logs = (stages.masked - stages.lse[..., None]).where(stages.weights != 0, 0)
            of_logs = -(1 + logs) * of_entropy.grad.double()[..., None]
            delta = delta + (stages.weights * of_logs).sum(-1)
        of_masked = stages.weights * ((upstream @ value.mT) * pattern + of_logs - delta[..., None])
        gradients = self._through_logits(p, stages, of_masked.where(seen, 0))
        gradients["value"] = (
            seen_product((stages.weights * pattern).mT, upstream, seen.mT)
            .reshape(b, p.key.shape[1], p.group, m, -1)
            .sum(2)
        )
        if p.sinks is not None:
            share = torch.exp(p.sinks.double()[:, None] - stages.lse)  # its weight
            gradients["sinks"] = -(share * delta).sum((0, 2))
        return self._wanted(p, gradients, wanted)

    def _through_logits(self, p, stages, of_masked):
        """Gradients of what logits are made of."""
        b, h, n, m = p.shape
        query, key = p.query.double(), p.key.double().repeat_interleave(p.group, 1)
        seen = stages.masked != -math.inf
        of_scaled = of_masked
        if p.softcap is not None:
            of_scaled = of_masked * (1 - (stages.capped / p.softcap) ** 2)
        of_scores = (of_scaled * p.scale).where(seen, 0)
        heads = (b, p.key.shape[1], p.group, m)
        gradients = {
            "query": seen_product(of_scores, key, seen),
            "key": seen_product(of_scores.mT, query, seen.mT).reshape(*heads, -1).sum(2),
        }
        if p.bias is not None:
            gradients["bias"] = of_masked.sum_to_size(p.bias.shape)
        if p.offset is not None:
            step = torch.arange(m) - torch.arange(n)[:, None] - p.offset[:, None, None]
            if p.slopes is not None:
                by_distance = (of_masked * step.abs()[:, None]).sum((-1, -2))
                gradients["slopes"] = -by_distance.sum_to_size(p.slopes.shape)
            if p.table is not None:
                radius = p.table.shape[1] // 2
                one_hot = torch.nn.functional.one_hot(step.clamp(-radius, radius) + radius, 2 * radius + 1)
                one_hot = one_hot.double().expand(b, n, m, -1)
                of_table = torch.einsum("bhnm,bnmt->ht", of_masked.where(of_masked.isfinite(), 0), one_hot)
                # NaN in the entries that read it, and in no other.
                poisoned = torch.einsum("bhnm,bnmt->ht", (~of_masked.isfinite()).double(), one_hot)
                of_table = of_table.masked_fill(poisoned > 0, math.nan)
                gradients["table"] = of_table.sum_to_size(p.table.shape)
        return gradients

    def _wanted(self, p, gradients, wanted):
        return {
            name: empty_gradient(name, getattr(p, name), torch.float64).copy_(gradients[name])
            for name in wanted
        }

    def lse(self, problem, rows=ALL):
        return stages_of(problem).lse[:, :, rows]

    def readouts(self, problem, lse, requests):
        return {request.name: self._readout(problem, request) for request in requests}

    def _readout(self, problem, request):
        stages = stages_of(problem)
        weights, masked = stages.weights, stages.masked
        b, h, n, m = problem.shape
        if request.name == "entropy":
            return self._kept(problem, -torch.special.xlogy(weights, weights).sum(-1))
        if request.name == "received":
            return self._kept(problem, weights.sum(2))
        if request.name == "max_score":
            empty = weights.new_full((b, h, n), -math.inf)
            largest = masked.amax(-1) if m else empty
            return self._kept(problem, largest.masked_fill(stages.lse.isnan(), math.nan))
        if request.name in ("max", "topk"):
            best = masked.topk(request.k if request.name == "topk" else 1, -1)
            values = self._kept(problem, weights.gather(-1, best.indices))
            indices = torch.where(best.values != -math.inf, best.indices, -1)
            return (
                Values(values, indices) if request.name == "topk" else Values(values[..., 0], indices[..., 0])
            )
        if request.name == "mass":
            segments = request.segments if request.segments.dim() == 2 else request.segments[None]
            one_hot = torch.nn.functional.one_hot(segments.long()).double()
            return self._kept(problem, _by_cell(weights, one_hot[:, None]))
        align = {"bottom-right": m - n, "top-left": 0}.get(request.align, request.align)
        first = torch.as_tensor(align).reshape(-1, 1, 1, 1)
        step = (torch.arange(m) - torch.arange(n)[:, None] - first).abs()
        return self._kept(problem, (weights * step).sum(-1))

    def summed(self, problem, lse, summand, over):
        stages = stages_of(problem)
        weights, scores = stages.weights, stages.masked
        _, _, n, m = problem.shape
        pairs = {
            "weight": lambda: weights,
            "weight_squared": lambda: weights**2,
            "score": lambda: scores,
            "weight_times_score": lambda: weights * scores,
            "weight_times_distance": lambda: weights * (torch.arange(n)[:, None] - torch.arange(m)).abs(),
            "weight_above": lambda: (weights > summand.threshold).double(),
        }[summand.function]()
        return self._kept(problem, pairs.where(scores != -math.inf, 0).sum(-1 if over == "keys" else -2))

    def cells(self, problem, lse, rows, cols, cells, fields):
        weights, visible = self._region(problem, rows, cols)
        logs = torch.special.xlogy(weights, weights)
        answers = {"entropy": -logs.sum(-1), "received": weights.sum(2)}
        if cells is not None:
            one_hot = torch.nn.functional.one_hot(cells.of_key.long(), cells.size)[0].double()
            answers["cell_sum"] = _by_cell(weights, one_hot)
            answers["cell_seen"] = visible.double() @ one_hot
            spread = torch.where(visible, weights, -1.0)[..., None]
            inside = one_hot.bool()
            answers["cell_max"] = torch.where(inside, spread, -1.0).amax(3)
        return {field: self._kept(problem, answers[field]) for field in fields}

    def pool(self, problem, lse, region):
        weights, visible = self._region(problem, region.rows, region.cols)
        sides = ((weights.shape[2], region.height), (weights.shape[3], region.width))
        rows, cols = (
            torch.arange(cells)[:, None] == cell_of(n, cells, torch.device("cpu")) for n, cells in sides
        )
        total = _by_cell(_by_cell(torch.where(visible, weights, 0.0), cols.double().T).mT, rows.double().T).mT
        seen = rows.double() @ visible.double() @ cols.double().T
        if region.reduce == "sum":
            return self._kept(problem, total)
        if region.reduce == "max":
            shown = torch.where(visible, weights, -1.0)
            by_row = torch.stack([torch.where(one[:, None], shown, -1.0).amax(2) for one in rows], 2)
            total = torch.stack([torch.where(one, by_row, -1.0).amax(3) for one in cols], 3) * 1.0
            return self._kept(problem, total.masked_fill(seen == 0, math.nan))
        return self._kept(problem, total / seen)

    def product(self, problem, lse, x):
        stages = stages_of(problem)
        return self._kept(problem, seen_product(stages.weights, x.double(), stages.masked != -math.inf))

    def transposed_product(self, problem, lse, x):
        stages = stages_of(problem)
        seen = (stages.masked != -math.inf).mT
        return self._kept(problem, seen_product(stages.weights.mT, x.double(), seen))

    def _region(self, problem, rows, cols):
        """Weights and visibility of some rows and columns."""
        stages = stages_of(problem)
        lowered = Lowered(problem)
        seen = (stages.masked != -math.inf) if problem.hides else lowered.visible(problem.shape, None)
        seen = seen.expand(problem.shape)
        return stages.weights[:, :, rows, cols], seen[:, :, rows, cols]

    def _kept(self, problem, tensor):
        return tensor if problem.query.dtype == torch.float64 else tensor.float()

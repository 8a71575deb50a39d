"""Query and key projections of attention layers, head by head, as what can be scaled."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from sightline.nn import CrossAttention, MultiheadAttention
from sightline.nn.linear import Linear
from sightline.nn.projections import Projections


class Scaled:
    """An attention layer whose scores can be made smaller, head by head.

    Attributes:
        module: the layer.
        heads: H, of queries.
        groups: G, of keys.
        kind: "self" or "cross".
    """

    def __init__(self, module: Projections | MultiheadAttention) -> None:
        self.module = module
        if isinstance(module, Projections):
            self.heads, self.groups = module.heads, module.kv_heads
        else:
            self.heads = self.groups = module.num_heads
        self.kind = "cross" if isinstance(module, CrossAttention) else "self"

    def check(self) -> None:
        """Raises for projections that are not the layer's own plain weights."""
        module = self.module
        if not isinstance(module, Projections):
            return
        for name in ("query", "key"):
            projection = getattr(module, name)
            plain = type(projection) in (nn.Linear, Linear) and isinstance(projection.weight, nn.Parameter)
            if not plain or not projection.weight.is_floating_point():
                raise ValueError(
                    f"model: a layer's {name} projection is a {type(projection).__name__} whose weights "
                    "cannot be scaled in place. Choose layers with plain projections by layers=."
                )

    def parameters(self) -> list[Tensor]:
        """The layer's parameters that hold the weights of queries and keys."""
        module = self.module
        if isinstance(module, Projections):
            return [module.query.weight, module.key.weight]
        if module.in_proj_weight is not None:
            return [module.in_proj_weight]
        return [module.q_proj_weight, module.k_proj_weight]

    def scale(self, factors: Sequence[float]) -> None:
        """Multiplies the scores of each query head by a factor from 0 to 1."""
        size = self.heads // self.groups
        of_keys = [math.sqrt(min(factors[g * size : (g + 1) * size])) for g in range(self.groups)]
        of_queries = [factor / of_keys[head // size] for head, factor in enumerate(factors)]
        with torch.no_grad():
            for tensor in self._queries():
                _multiply(tensor, of_queries)
            for tensor in self._keys():
                _multiply(tensor, of_keys)

    def _queries(self) -> list[Tensor]:
        """Weights and biases that make queries, [H·D, ...]."""
        module = self.module
        if isinstance(module, Projections):
            return _of(module.query)
        packed = module.in_proj_weight is not None
        weight = module.in_proj_weight.chunk(3)[0] if packed else module.q_proj_weight
        return [weight, *([] if module.in_proj_bias is None else [module.in_proj_bias.chunk(3)[0]])]

    def _keys(self) -> list[Tensor]:
        """Weights and biases that make keys, [G·D, ...]."""
        module = self.module
        if isinstance(module, Projections):
            return _of(module.key)
        packed = module.in_proj_weight is not None
        weight = module.in_proj_weight.chunk(3)[1] if packed else module.k_proj_weight
        more = [] if module.in_proj_bias is None else [module.in_proj_bias.chunk(3)[1]]
        if module.bias_k is not None:  # a key of its own, which is no projection
            more.append(module.bias_k.view(-1))
        return [weight, *more]


def scaled_projections(model: nn.Module) -> Iterator[tuple[str, Scaled]]:
    """The attention layers of :mod:`sightline.nn` in a model, by their names."""
    for name, module in model.named_modules():
        if isinstance(module, (Projections, MultiheadAttention)):
            yield name, Scaled(module)


def _of(projection: nn.Module) -> list[Tensor]:
    held = (projection.weight, projection.bias)
    return [tensor for tensor in held if isinstance(tensor, Tensor)]


def _multiply(tensor: Tensor, factors: Sequence[float]) -> None:
    """Multiplies the rows of each head, [heads·D, ...], in place; a factor of 1 changes no bit."""
    dtype = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    by_row = torch.tensor(factors, dtype=dtype, device=tensor.device)
    by_row = by_row.repeat_interleave(tensor.shape[0] // len(factors))
    tensor.mul_(by_row.view(-1, *[1] * (tensor.dim() - 1)))

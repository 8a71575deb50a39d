"""Single layers: a linear one, and self-attention with its projections."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sightline.bench.wholes.case import Direction, Whole, WholeCase
from sightline.nn import Linear, SelfAttention
from sightline.nn.acceleration import accelerate


def linear_case(rows: int, inputs: int, outputs: int, dtype: str, direction: Direction) -> WholeCase:
    """x [rows, inputs] · weightᵀ + bias, with the gradients of all three or without."""
    products = 1 if direction == "forward" else 3
    return WholeCase(
        f"({rows}, {inputs} → {outputs})", f"{__name__}:build_linear", dtype, direction,
        (("rows", rows), ("inputs", inputs), ("outputs", outputs)), 2.0 * products * rows * inputs * outputs,
    )  # fmt: skip


def build_linear(rows: int, inputs: int, outputs: int) -> Whole:
    """``torch.nn.Linear``, which is ``F.linear`` and no more."""
    return Whole(nn.Linear(inputs, outputs), (torch.randn(rows, inputs),), _accelerated)


def _accelerated(module: nn.Module) -> nn.Module:
    accelerate(module)
    if not isinstance(module, Linear):
        raise RuntimeError("accelerate() has left the layer as it was")
    return module


def self_attention_case(
    batch: int, length: int, width: int, heads: int, dtype: str, direction: Direction
) -> WholeCase:
    """Self-attention over x [batch, length, width], full."""
    backward = direction != "forward"
    projections = 2.0 * 4 * batch * length * width**2 * (3 if backward else 1)
    pairs = 2.0 * 2 * batch * length**2 * width * (3.5 if backward else 1)
    return WholeCase(
        f"({batch},{length}), {width} wide, {heads} heads", f"{__name__}:build_self_attention", dtype,
        direction, (("batch", batch), ("length", length), ("width", width), ("heads", heads)),
        projections + pairs,
    )  # fmt: skip


class _MultiheadAttention(nn.Module):
    """``torch.nn.MultiheadAttention`` over one sequence, without weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(x, x, x, need_weights=False)[0]
        return output


def build_self_attention(batch: int, length: int, width: int, heads: int) -> Whole:
    """PyTorch's layer; ours is a ``SelfAttention`` with its weights, accelerated."""
    module = _MultiheadAttention(width, heads)
    return Whole(module, (torch.randn(batch, length, width),), _ours, compared=_parameters)


def _ours(module: nn.Module) -> SelfAttention:
    theirs = module.layer
    assert isinstance(theirs, nn.MultiheadAttention)
    ours = SelfAttention(theirs.embed_dim, theirs.num_heads).to(theirs.out_proj.weight.dtype)
    projections = (ours.query, ours.key, ours.value)
    with torch.no_grad():
        for name, packed in (("weight", theirs.in_proj_weight), ("bias", theirs.in_proj_bias)):
            for each, part in zip(projections, packed.chunk(3), strict=True):
                getattr(each, name).copy_(part)
    ours.output.load_state_dict(theirs.out_proj.state_dict())
    accelerate(ours)  # its layers are ours already; what it moves is their weights
    return ours.eval()


def _parameters(module: nn.Module) -> Sequence[Tensor]:
    """In the order of PyTorch's layer, which has query, key and value in one."""
    if not isinstance(module, SelfAttention):
        return list(module.parameters())
    projections = (module.query, module.key, module.value)
    return [
        *(each.weight for each in projections), *(each.bias for each in projections),
        module.output.weight, module.output.bias,
    ]  # fmt: skip

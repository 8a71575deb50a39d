"""PyTorch's operators, each looked at once: what the recorder does when it sees one run."""

from __future__ import annotations

import functools
from typing import Any

import torch

from sightline.products import onednn
from sightline.tracing import fused
from sightline.tracing.eager.watched import BEGINS, WATCHED
from sightline.tracing.eager.writes import kind_of
from sightline.tracing.flex import flex_attention
from sightline.tracing.fused import Reader
from sightline.tracing.nested import RAGGED

aten = torch.ops.aten

# Where a product has what is projected and the weights.
_PROJECTIONS = {
    aten.addmm.default: (1, 2),
    aten.mm.default: (0, 1),
    aten.linear.default: (0, 1),
    aten.convolution.default: (0, 1),
    aten.bmm.default: (0, 1),
}
if onednn.operator() is not None:
    _PROJECTIONS[onednn.operator()] = (0, 1)
# Where a layer that projects puts its features. A product alone may be one of queries that are learnt.
_FEATURES = {aten.addmm.default: 1, aten.linear.default: -1, aten.convolution.default: 1}
_JOINS = {aten.cat.default, aten.stack.default}


class Operator:
    """What is to be done with an operator; settled once."""

    __slots__ = (
        "composite", "dull", "eager", "features", "fused", "joins", "name", "op", "out", "projection",
        "ragged", "rewrites", "starts", "view", "written",
    )  # fmt: skip

    def __init__(self, op: Any) -> None:
        self.op = op  # held, so that its id stays its own
        self.name = str(op)
        schema = getattr(op, "_schema", None)
        arguments: list[Any] = [] if schema is None else schema.arguments
        #: The name of the tensor that the result is put into, where it is given one.
        self.out = next((argument.name for argument in arguments if argument.is_out), None)
        self.written = bool(arguments) and not arguments[0].is_out and _is_written(arguments[0])
        plain = op if self.out is None else _without_out(op)
        self.fused = _fused().get(op)
        self.eager = WATCHED.get(plain)
        self.projection = _PROJECTIONS.get(plain)
        self.features = _FEATURES.get(plain)
        self.joins = plain in _JOINS
        self.rewrites = not self.written and kind_of(plain) is not None
        # What may begin something, whether or not anything is being followed.
        self.starts = self.projection is not None or self.eager in BEGINS
        self.composite = _is_composite(op)
        # What makes attention of nested tensors; and in inference mode what must stay whole for them.
        self.ragged = self.fused is None and (self.composite or op in RAGGED)
        mutable = schema is not None and schema.is_mutable
        self.view = not mutable and any(argument.alias_info is not None for argument in arguments)
        #: Whether there is nothing to see while nothing is being followed.
        self.dull = not (mutable or self.starts or self.composite or self.fused)


#: By the id of the operator: hashing one is a Python call.
_operators: dict[int, Operator] = {}


def operator_of(op: Any) -> Operator:
    """What is to be done with an operator of PyTorch's."""
    known = _operators.get(id(op))
    if known is None:
        known = _operators[id(op)] = Operator(op)
    return known


@functools.cache
def _fused() -> dict[Any, Reader]:
    return fused.operators() | {torch.ops.higher_order.flex_attention: flex_attention}


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _without_out(op: Any) -> Any:
    """The operator that makes a new tensor of what this one puts into a given tensor."""
    own = [argument.type for argument in op._schema.arguments if not argument.is_out]
    for name in op.overloadpacket.overloads():
        other = getattr(op.overloadpacket, name)
        arguments = other._schema.arguments
        if [argument.type for argument in arguments] == own and not any(map(_is_written, arguments)):
            return other
    return op


def _is_composite(op: Any) -> bool:
    """Whether an operator is nothing but others. In inference mode such come here whole.

    Those that PyTorch itself makes views of (``chunk``, ``narrow``) count as one: their parts must not.
    """
    if not isinstance(op, torch._ops.OpOverload):
        return False
    name = op.name()
    if not torch._C._dispatch_has_kernel(name):
        return False
    return torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd") and not any(
        torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
        for key in ("CPU", "CUDA", "ADInplaceOrView")
    )

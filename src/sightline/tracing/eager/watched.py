"""Which ATen operations are watched, and what is made of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sightline.tracing.eager.dropout import drawn, dropped
from sightline.tracing.eager.followed import FollowedScores
from sightline.tracing.eager.hiding import bounded, chosen, filled
from sightline.tracing.eager.products import added_product, product
from sightline.tracing.eager.softmax import exponential, log_softmax, softmax
from sightline.tracing.eager.terms import (
    copied,
    copied_into,
    divided,
    joined,
    padded,
    scaled,
    subtracted,
    summed,
    tanh,
)

#: Takes what is being followed, an operation's arguments, positional and named, and its result.
Watcher = Callable[[FollowedScores, Any, Any, Any], None]

aten = torch.ops.aten

WATCHED: dict[Any, Watcher] = {
    aten.bmm.default: product,
    aten.mm.default: product,
    aten.baddbmm.default: added_product,
    aten.baddbmm_.default: added_product,
    aten.mul.Tensor: scaled,
    aten.mul.Scalar: scaled,
    aten.mul_.Tensor: scaled,
    aten.mul_.Scalar: scaled,
    aten.div.Tensor: divided,
    aten.div.Scalar: divided,
    aten.div_.Tensor: divided,
    aten.div_.Scalar: divided,
    aten.add.Tensor: summed,
    aten.add.Scalar: summed,
    aten.add_.Tensor: summed,
    aten.add_.Scalar: summed,
    aten.sub.Tensor: subtracted,
    aten.sub.Scalar: subtracted,
    aten.sub_.Tensor: subtracted,
    aten.sub_.Scalar: subtracted,
    aten.tanh.default: tanh,
    aten.tanh_.default: tanh,
    aten.masked_fill.Scalar: filled,
    aten.masked_fill.Tensor: filled,
    aten.masked_fill_.Scalar: filled,
    aten.masked_fill_.Tensor: filled,
    aten.where.self: chosen,
    aten.where.ScalarOther: chosen,
    aten.clamp.default: bounded,
    aten.clamp_min.default: bounded,
    aten.maximum.default: bounded,
    aten._to_copy.default: copied,
    aten.clone.default: copied,
    aten.copy_.default: copied_into,
    aten.nan_to_num.default: copied,
    aten.cat.default: joined,
    aten.constant_pad_nd.default: padded,
    aten._log_softmax.default: log_softmax,
    aten._softmax.default: softmax,
    aten.softmax.int: softmax,
    aten._safe_softmax.default: softmax,
    aten.exp.default: exponential,
    aten.exp_.default: exponential,
    aten.bernoulli_.float: drawn,
    aten.bernoulli.p: drawn,
    aten.native_dropout.default: dropped,
}

#: What may begin something, whether or not anything is being followed yet; products with weights besides.
BEGINS: frozenset[Watcher] = frozenset((softmax, added_product, drawn, chosen))

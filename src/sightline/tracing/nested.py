"""Attention on nested tensors: ragged texts, which PyTorch multiplies one by one, as documents of one row.

On a CPU their fused function is a product, a softmax and a product of nested tensors, with no other operation
between them; in inference mode it is one operation. Nothing is padded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sightline.tracing.caught import DROPOUT, CaughtCall
from sightline.tracing.storage import ByStorage, address

aten = torch.ops.aten

_SOFTMAXES = (aten._softmax.default, aten._safe_softmax.default)
_WHOLE = aten._scaled_dot_product_attention_math.default
#: The operators that are looked at.
RAGGED = {*_SOFTMAXES, _WHOLE, aten.matmul.default}


def is_ragged(value: object) -> bool:
    """Whether this is a nested tensor with memory of its own: a list of tensors, one after another."""
    return type(value) is Tensor and value.is_nested and value.layout is torch.strided


class RaggedScores:
    """What is known about products of nested tensors that may come to attention."""

    def __init__(self) -> None:
        self._factors: ByStorage[tuple[Tensor, Tensor]] = ByStorage(8)
        self._weights: ByStorage[tuple[Tensor, Tensor]] = ByStorage(8)

    def clear(self) -> None:
        """Forgets everything."""
        self._factors.clear()
        self._weights.clear()

    def look(self, func: Any, args: Any, kwargs: Any, out: Any) -> CaughtCall | None:
        """An operation on nested tensors; a call where it was the last of one."""
        if func is _WHOLE:
            return _whole(args, kwargs, out)
        if func in _SOFTMAXES:
            factors = self._factors.at(address(_buffer(args[0])))
            if factors is not None and args[1] in (-1, args[0].dim() - 1):
                self._weights.set(_buffer(out), factors)
        elif func is aten.matmul.default and is_ragged(args[1]):
            factors = self._weights.at(address(_buffer(args[0])))
            if factors is not None:
                return _call(*factors, args[1], out)
            self._factors.set(_buffer(out), (args[0], args[1].transpose(-1, -2)))
        return None


def _whole(args: Any, kwargs: Any, out: Any) -> CaughtCall | None:
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = dict(zip(names, args, strict=False)) | kwargs
    if given.get("attn_mask") is not None or given.get("is_causal"):
        return None
    caught = _call(given["query"], given["key"], given["value"], out[0])
    if caught is not None:
        caught.scale = given.get("scale")
        caught.dropout = float(given.get("dropout_p") or 0.0)
        caught.doubt = DROPOUT if caught.dropout else None
        caught.scale = caught.query.shape[3] ** -0.5 if caught.scale is None else caught.scale
    return caught


def _call(query: Tensor, key: Tensor, value: Tensor, context: Tensor) -> CaughtCall | None:
    """The call in which each text looks at itself."""
    queries, keys = query.unbind(), key.unbind()
    if queries[0].dim() != 3:  # [H,N,D] each
        return None
    q, k, v, out = (
        torch.cat(list(texts), 1)[None] for texts in (queries, keys, value.unbind(), context.unbind())
    )
    stops = torch.tensor([text.shape[1] for text in keys]).cumsum(0)
    ranges = torch.stack((torch.cat((stops.new_zeros(1), stops[:-1])), stops), -1)
    rows = torch.tensor([text.shape[1] for text in queries])
    caught = CaughtCall("scaled_dot_product_attention (nested)", q, k, v, out, 1.0)

    def put(other: Tensor) -> None:
        texts = context.unbind()
        for text, new in zip(texts, other[0].split([t.shape[1] for t in texts], 1), strict=True):
            text.copy_(new)

    caught.put = put
    caught.ranges = ranges.repeat_interleave(rows, 0).int()[None, None, :, None].to(q.device)
    return caught


def _buffer(tensor: Tensor) -> Tensor:
    """All entries of a nested tensor, one after another."""
    return torch.ops.aten.values.default(tensor)  # type: ignore[no-any-return]

"""Fast paths: ``nn.MultiheadAttention`` and ``nn.TransformerEncoderLayer`` running as one operation.

Their context never appears; what stands behind it does, so that is what is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sightline.tracing.caught import CaughtCall


def native_mha(args: Any, kwargs: Any, out: Any) -> CaughtCall | None:
    """The fast path of nn.MultiheadAttention: projections, attention and output projection in one."""
    names = ("query", "key", "value", "embed_dim", "num_head", "qkv_weight", "qkv_bias", "proj_weight",
             "proj_bias", "mask", "need_weights", "average_attn_weights", "mask_type")  # fmt: skip
    given = dict(zip(names, args, strict=False)) | kwargs
    inputs = [given["query"], given["key"], given["value"]]
    cross = given["query"] is not given["key"]
    projected = _in_projection(inputs, given["num_head"], given["qkv_weight"], given["qkv_bias"])

    def compare(context: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        mine = _joined(context, given["proj_weight"], given["proj_bias"])
        return mine, _padded(out[0])[:, rows].to(mine.dtype)

    caught = _native("nn.MultiheadAttention (fast path)", projected, given, compare)
    caught.cross, caught.put = cross, _putting(compare, out[0])
    return caught


def encoder_layer(args: Any, kwargs: Any, out: Any) -> CaughtCall | None:
    """The fast path of nn.TransformerEncoderLayer: the whole layer in one."""
    names = ("src", "embed_dim", "num_heads", "qkv_weight", "qkv_bias", "proj_weight", "proj_bias",
             "use_gelu", "norm_first", "eps", "norm_weight_1", "norm_bias_1", "norm_weight_2",
             "norm_bias_2", "ffn_weight_1", "ffn_bias_1", "ffn_weight_2", "ffn_bias_2", "mask",
             "mask_type")  # fmt: skip
    given = dict(zip(names, args, strict=False)) | kwargs
    source, first = given["src"], given["norm_first"]

    def norm(x: Tensor, which: str) -> Tensor:
        weight, bias = given[f"norm_weight_{which}"], given[f"norm_bias_{which}"]
        return torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, given["eps"])

    def compare(context: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        x = _padded(source)[:, rows]
        attended = _joined(context.to(x.dtype), given["proj_weight"], given["proj_bias"])
        x = x + attended if first else norm(x + attended, "1")
        inner = torch.nn.functional.linear(
            norm(x, "2") if first else x, given["ffn_weight_1"], given["ffn_bias_1"]
        )
        inner = torch.nn.functional.gelu(inner) if given["use_gelu"] else inner.relu()
        x = x + torch.nn.functional.linear(inner, given["ffn_weight_2"], given["ffn_bias_2"])
        return (x if first else norm(x, "2")), _padded(out)[:, rows]

    x = norm(source, "1") if first else source
    projected = _in_projection([x, x, x], given["num_heads"], given["qkv_weight"], given["qkv_bias"])
    given["query"] = source
    caught = _native("nn.TransformerEncoderLayer (fast path)", projected, given, compare)
    caught.cross, caught.inside, caught.put = False, "self_attn", _putting(compare, out)
    return caught


def _native(how: str, projected: list[Tensor], given: Any, compare: Callable[..., Any]) -> CaughtCall:
    query, key, value = projected
    caught = CaughtCall(how, query, key, value, None)
    caught.compare = compare
    mask, kind = given.get("mask"), given.get("mask_type")
    if given["query"].is_nested:
        sizes = torch.tensor([one.shape[0] for one in given["query"].unbind()], device=query.device)
        # Rows past a text's end are padding of ours: they see nothing.
        inside = torch.arange(query.shape[2], device=query.device) < sizes[:, None, None]
        stop = sizes[:, None, None] * inside
        caught.ranges = torch.stack((torch.zeros_like(stop), stop), -1).int()[..., None, :]
    if mask is not None:
        # 0: the same for all, [N,M]; 1: padding, [B,M]; 2: for each, [B,H,N,M] or [B·H,N,M].
        b, h, n, m = (*query.shape[:3], key.shape[2])
        shape = {0: (1, 1, n, m), 1: (b, 1, 1, m)}.get(kind, (b, h, n, m))
        four = mask.reshape(shape)
        (caught.hidden if mask.dtype == torch.bool else caught.added).append(four)
    return caught


def _putting(compare: Callable[..., Any], out: Tensor) -> Callable[[Tensor], None]:
    """What puts into ``out`` what comes of another context."""

    def put(context: Tensor) -> None:
        mine, _ = compare(context, slice(None))
        if not out.is_nested:
            out.copy_(mine)
            return
        for text, new in zip(out.unbind(), mine, strict=True):
            text.copy_(new[: text.shape[0]])

    return put


def _padded(tensor: Tensor) -> Tensor:
    return torch.nested.to_padded_tensor(tensor, 0.0) if tensor.is_nested else tensor


def _in_projection(inputs: list[Tensor], heads: int, weight: Tensor, bias: Tensor) -> list[Tensor]:
    parts = zip(inputs, weight.chunk(3), bias.chunk(3), strict=True)
    projected = [torch.nn.functional.linear(_padded(x), w, b) for x, w, b in parts]
    return [p.unflatten(-1, (heads, -1)).transpose(1, 2) for p in projected]


def _joined(context: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    heads = context.transpose(1, 2).flatten(2).to(weight.dtype)
    return torch.nn.functional.linear(heads, weight, bias)

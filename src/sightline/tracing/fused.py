"""Attention that runs as one operation: what each of PyTorch's operators, and Sightline's own, was given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sightline.backends.problem import Problem
from sightline.tracing.found import DROPOUT, Found

aten = torch.ops.aten


def _argument(args: Any, kwargs: Any, place: int, name: str, default: Any = None) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _sdpa(tensors: Any, context: Tensor, **terms: Any) -> Found | None:
    """The common form of scaled_dot_product_attention, with any number of leading axes."""
    query, key, value = tensors
    if any(t.is_nested for t in tensors):
        return None
    lead = torch.broadcast_shapes(query.shape[:-3], key.shape[:-3], value.shape[:-3])

    def four(tensor: Tensor) -> Tensor:
        return _four(tensor, lead)

    q, k, v, out = four(query), four(key), four(value), four(context)
    if k.shape[1] == 1 < v.shape[1] or v.shape[1] == 1 < k.shape[1]:
        groups = max(k.shape[1], v.shape[1])
        k, v = (t.expand(-1, groups, -1, -1) for t in (k, v))
    if q.shape[1] == 1 < k.shape[1]:  # one head of queries for many of keys
        q = q.expand(-1, k.shape[1], -1, -1)
    found = Found("scaled_dot_product_attention", q, k, v, out, terms.get("scale"))
    mask, dropout = terms.get("mask"), terms.get("dropout", 0.0)
    if mask is not None:
        mask = _four_mask(mask, lead, q)
        (found.visible if mask.dtype == torch.bool else found.added).append(mask)
    found.causal = bool(terms.get("causal"))
    found.doubt = DROPOUT if dropout else None
    found.output = (context, four)
    return found


def _four(tensor: Tensor, lead: torch.Size) -> Tensor:
    """[..., H,N,D] -> [B,H,N,D]; [N,D] and [H,N,D] get the axes that they lack."""
    if tensor.dim() == 4 and tensor.shape[:-3] == lead:
        return tensor
    tensor = tensor[(None,) * max(0, 3 - tensor.dim())]
    return tensor.expand(*lead, *tensor.shape[-3:]).reshape(math.prod(lead), *tensor.shape[-3:])


def _four_mask(mask: Tensor, lead: torch.Size, query: Tensor) -> Tensor:
    mask = mask[(None,) * max(0, 4 - mask.dim())]
    if mask.dim() == 4 and (mask.shape[0] == 1 or len(lead) == 1):
        return mask
    return mask.expand(*lead, *mask.shape[-3:]).reshape(query.shape[0], *mask.shape[-3:])


def sdpa(args: Any, kwargs: Any, out: Any) -> Found | None:
    """The operator as a whole, as it is seen in inference mode."""
    return _sdpa(
        args[:3],
        out,
        mask=_argument(args, kwargs, 3, "attn_mask"),
        dropout=_argument(args, kwargs, 4, "dropout_p", 0.0),
        causal=_argument(args, kwargs, 5, "is_causal", False),
        scale=kwargs.get("scale"),
    )


def flash(args: Any, kwargs: Any, out: Any) -> Found | None:
    """Flash attention on the CPU or a GPU."""
    return _sdpa(
        args[:3],
        out[0],
        dropout=_argument(args, kwargs, 3, "dropout_p", 0.0),
        causal=_argument(args, kwargs, 4, "is_causal", False),
        mask=kwargs.get("attn_mask"),
        scale=kwargs.get("scale"),
    )


def with_bias(args: Any, kwargs: Any, out: Any) -> Found | None:
    """Memory-efficient and cuDNN attention."""
    return _sdpa(
        args[:3],
        out[0],
        mask=_argument(args, kwargs, 3, "attn_bias"),
        dropout=_argument(args, kwargs, 5, "dropout_p", 0.0),
        causal=_argument(args, kwargs, 6, "is_causal", False),
        scale=kwargs.get("scale"),
    )


def overrideable(args: Any, kwargs: Any, out: Any) -> Found | None:
    """The operator that other devices implement."""
    return _sdpa(
        args[:3],
        out[0],
        mask=_argument(args, kwargs, 3, "attn_bias"),
        dropout=_argument(args, kwargs, 4, "dropout_p", 0.0),
        causal=_argument(args, kwargs, 5, "is_causal", False),
        scale=kwargs.get("scale"),
    )


_FIELDS = (
    "query", "key", "value", "ranges", "visible", "bias", "slopes", "table", "offset", "sinks", "seed",
    "scale", "softcap", "dropout",
)  # fmt: skip


def sightline_attention(args: Any, kwargs: Any, out: Any) -> Found | None:
    """Sightline's own operator: its arguments are a Problem's fields."""
    given = dict(zip(_FIELDS, args, strict=False)) | {n: v for n, v in kwargs.items() if n in _FIELDS}
    problem = Problem(**given)
    assert problem.value is not None
    found = Found("sightline.attention", problem.query, problem.key, problem.value, out[0], problem=problem)
    found.lse = out[1]
    found.doubt = DROPOUT if problem.dropout else None
    found.output = (out[0], lambda tensor: tensor)
    return found


# --- nn.MultiheadAttention and nn.TransformerEncoderLayer, the fast path ------------------------------


def native_mha(args: Any, kwargs: Any, out: Any) -> Found | None:
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

    found = _native("nn.MultiheadAttention (fast path)", projected, given, compare)
    found.cross = cross
    return found


def encoder_layer(args: Any, kwargs: Any, out: Any) -> Found | None:
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
    found = _native("nn.TransformerEncoderLayer (fast path)", projected, given, compare)
    found.cross, found.inside = False, "self_attn"
    return found


def _native(how: str, projected: list[Tensor], given: Any, compare: Callable[..., Any]) -> Found:
    query, key, value = projected
    found = Found(how, query, key, value, None)
    found.compare = compare
    mask, kind = given.get("mask"), given.get("mask_type")
    if given["query"].is_nested:
        sizes = torch.tensor([one.shape[0] for one in given["query"].unbind()], device=query.device)
        # Rows past a text's end are padding of ours: they see nothing.
        inside = torch.arange(query.shape[2], device=query.device) < sizes[:, None, None]
        stop = sizes[:, None, None] * inside
        found.ranges = torch.stack((torch.zeros_like(stop), stop), -1).int()[..., None, :]
    if mask is not None:
        # 0: the same for all, [N,M]; 1: padding, [B,M]; 2: for each, [B,H,N,M] or [B·H,N,M].
        b, h, n, m = (*query.shape[:3], key.shape[2])
        shape = {0: (1, 1, n, m), 1: (b, 1, 1, m)}.get(kind, (b, h, n, m))
        four = mask.reshape(shape)
        (found.hidden if mask.dtype == torch.bool else found.added).append(four)
    return found


def _padded(tensor: Tensor) -> Tensor:
    return torch.nested.to_padded_tensor(tensor, 0.0) if tensor.is_nested else tensor


def _in_projection(inputs: list[Tensor], heads: int, weight: Tensor, bias: Tensor) -> list[Tensor]:
    parts = zip(inputs, weight.chunk(3), bias.chunk(3), strict=True)
    projected = [torch.nn.functional.linear(_padded(x), w, b) for x, w, b in parts]
    return [p.unflatten(-1, (heads, -1)).transpose(1, 2) for p in projected]


def _joined(context: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    heads = context.transpose(1, 2).flatten(2).to(weight.dtype)
    return torch.nn.functional.linear(heads, weight, bias)


def operators() -> dict[Any, Callable[[Any, Any, Any], Found | None]]:
    """What reads which operator."""
    known: dict[Any, Callable[[Any, Any, Any], Found | None]] = {
        torch.ops.sightline.attention.default: sightline_attention
    }
    for name, read in (
        ("scaled_dot_product_attention", sdpa),
        ("_scaled_dot_product_flash_attention_for_cpu", flash),
        ("_scaled_dot_product_flash_attention", flash),
        ("_scaled_dot_product_efficient_attention", with_bias),
        ("_scaled_dot_product_cudnn_attention", with_bias),
        ("_scaled_dot_product_fused_attention_overrideable", overrideable),
        ("_native_multi_head_attention", native_mha),
        ("_transformer_encoder_layer_fwd", encoder_layer),
    ):
        packet = getattr(aten, name, None)
        if packet is not None:
            known[packet.default] = read
    return known

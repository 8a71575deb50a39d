"""Attention that runs as one operation: what each of PyTorch's operators, and Sightline's own, was given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sightline.backends.problem import FIELDS, NUMBERS, Problem
from sightline.tracing.caught import DROPOUT, CaughtCall
from sightline.tracing.fast_paths import encoder_layer, native_mha

aten = torch.ops.aten

#: Takes an operator's arguments, positional and named, and its result.
Reader = Callable[[Any, Any, Any], CaughtCall | None]


def _argument(args: Any, kwargs: Any, place: int, name: str, default: Any = None) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _sdpa(tensors: Any, context: Tensor, **terms: Any) -> CaughtCall | None:
    """The common form of scaled_dot_product_attention, with any number of leading axes."""
    query, key, value = tensors
    if any(t.is_nested for t in tensors):
        return None
    leads = {tensor.shape[:-3] for tensor in tensors}
    lead = leads.pop() if len(leads) == 1 else torch.broadcast_shapes(*leads)

    def four(tensor: Tensor) -> Tensor:
        return _four(tensor, lead)

    q, k, v, out = four(query), four(key), four(value), four(context)
    if k.shape[1] == 1 < v.shape[1] or v.shape[1] == 1 < k.shape[1]:
        groups = max(k.shape[1], v.shape[1])
        k, v = (t.expand(-1, groups, -1, -1) for t in (k, v))
    if q.shape[1] == 1 < k.shape[1]:  # one head of queries for many of keys
        q = q.expand(-1, k.shape[1], -1, -1)
    caught = CaughtCall("scaled_dot_product_attention", q, k, v, out, terms.get("scale"))
    mask, dropout = terms.get("mask"), terms.get("dropout", 0.0)
    if mask is not None:
        mask = _four_mask(mask, lead, q)
        (caught.visible if mask.dtype == torch.bool else caught.added).append(mask)
    caught.causal = bool(terms.get("causal"))
    caught.doubt, caught.dropout = DROPOUT if dropout else None, float(dropout)
    caught.output = (context, four)
    caught.lead = (*lead, query.shape[-3]) if len(lead) > 1 else ()
    return caught


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


def sdpa(args: Any, kwargs: Any, out: Any) -> CaughtCall | None:
    """The operator as a whole, as it is seen in inference mode."""
    return _sdpa(
        args[:3],
        out,
        mask=_argument(args, kwargs, 3, "attn_mask"),
        dropout=_argument(args, kwargs, 4, "dropout_p", 0.0),
        causal=_argument(args, kwargs, 5, "is_causal", False),
        scale=kwargs.get("scale"),
    )


def flash(args: Any, kwargs: Any, out: Any) -> CaughtCall | None:
    """Flash attention on the CPU or a GPU."""
    return _sdpa(
        args[:3],
        out[0],
        dropout=_argument(args, kwargs, 3, "dropout_p", 0.0),
        causal=_argument(args, kwargs, 4, "is_causal", False),
        mask=kwargs.get("attn_mask"),
        scale=kwargs.get("scale"),
    )


def with_bias(args: Any, kwargs: Any, out: Any) -> CaughtCall | None:
    """Memory-efficient and cuDNN attention."""
    return _sdpa(
        args[:3],
        out[0],
        mask=_argument(args, kwargs, 3, "attn_bias"),
        dropout=_argument(args, kwargs, 5, "dropout_p", 0.0),
        causal=_argument(args, kwargs, 6, "is_causal", False),
        scale=kwargs.get("scale"),
    )


def overrideable(args: Any, kwargs: Any, out: Any) -> CaughtCall | None:
    """The operator that other devices implement."""
    return _sdpa(
        args[:3],
        out[0],
        mask=_argument(args, kwargs, 3, "attn_bias"),
        dropout=_argument(args, kwargs, 4, "dropout_p", 0.0),
        causal=_argument(args, kwargs, 5, "is_causal", False),
        scale=kwargs.get("scale"),
    )


_FIELDS = (*(field.name for field in FIELDS), *NUMBERS)


def sightline_attention(args: Any, kwargs: Any, out: Any) -> CaughtCall | None:
    """Sightline's own operator: its arguments are a Problem's fields."""
    given = dict(zip(_FIELDS, args, strict=False)) | kwargs
    problem = Problem(**given)
    assert problem.value is not None
    query, key, value = problem.query, problem.key, problem.value
    caught = CaughtCall("sightline.attention", query, key, value, out[0], problem=problem)
    caught.lse = out[1]
    caught.doubt, caught.dropout = DROPOUT if problem.dropout else None, problem.dropout
    caught.output = (out[0], lambda tensor: tensor)
    return caught


def operators() -> dict[Any, Reader]:
    """What reads which operator."""
    known: dict[Any, Reader] = {torch.ops.sightline.attention.default: sightline_attention}
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

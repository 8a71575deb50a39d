"""FlexAttention: a mask and a change of scores that are given as functions.

The mask function is evaluated by blocks of rows, so that ranges stay ranges. The score function is tried
out: it may add a bias or cap the scores; what else it does cannot be said by an attention matrix.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from sightline.tracing.caught import CaughtCall

_BLOCK = 1 << 20


def flex_attention(args: Any, kwargs: Any, out: Any) -> CaughtCall | None:
    """The higher-order operator: (query, key, value, score_mod, block_mask, scale, options, buffers...)."""
    names = ("query", "key", "value", "score_mod", "block_mask", "scale", "kernel_options",
             "score_mod_other_buffers", "mask_mod_other_buffers")  # fmt: skip
    given = dict(zip(names, args, strict=False)) | kwargs
    query, key, value = given["query"], given["key"], given["value"]
    batch = max(query.shape[0], key.shape[0])
    query, key, value = (t.expand(batch, *t.shape[1:]) for t in (query, key, value))
    caught = CaughtCall("flex_attention", query, key, value, out[0], given["scale"])
    caught.output = (out[0], lambda tensor: tensor)
    mask = _visible(given["block_mask"][-1], given.get("mask_mod_other_buffers") or (), query, key.shape[2])
    if mask is not None:
        caught.visible.append(mask)
    _score_mod(caught, given["score_mod"], given.get("score_mod_other_buffers") or ())
    return caught


def _grid(query: Tensor, rows: slice, keys: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    device = query.device
    b, h, n, _ = query.shape
    ids = [torch.arange(size, device=device, dtype=torch.int32) for size in (b, h, n, keys)]
    return (
        ids[0].view(b, 1, 1, 1),
        ids[1].view(1, h, 1, 1),
        ids[2][rows].view(1, 1, -1, 1),
        ids[3].view(1, 1, 1, keys),
    )


def _each(function: Any, *tensors: Tensor) -> Tensor:
    """A function of single numbers, for every entry of tensors that broadcast."""
    full = torch.broadcast_tensors(*tensors)
    for _ in range(full[0].dim()):
        function = torch.vmap(function)
    with _indexing():
        return function(*full)  # type: ignore[no-any-return]


def _indexing() -> AbstractContextManager[Any]:
    """What FlexAttention calls its functions in: without it, PyTorch 2.6 cannot index in a vmap."""
    try:
        from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex
    except ImportError:  # a private name, which a later PyTorch may drop
        return nullcontext()
    return TransformGetItemToIndex()


def _visible(mask_mod: Any, buffers: Any, query: Tensor, keys: int) -> Tensor | None:
    """The mask, [1|B,1|H,N,M] bool; the batch and the heads only where it differs between them."""
    b, h, n, _ = query.shape
    step = max(1, _BLOCK // max(1, b * h * keys))
    parts = []
    for start in range(0, n, step):
        bb, hh, i, j = _grid(query, slice(start, start + step), keys)
        parts.append(_each(lambda *where: mask_mod(*where, *buffers), bb, hh, i, j))
    whole = torch.cat(parts, 2)
    if bool(whole.all()):
        return None
    if b > 1 and bool((whole == whole[:1]).all()):
        whole = whole[:1]
    if h > 1 and bool((whole == whole[:, :1]).all()):
        whole = whole[:, :1]
    return whole.clone()


def _score_mod(caught: CaughtCall, score_mod: Any, buffers: Any) -> None:
    """What the score function does: nothing, a bias, or a soft cap."""
    if getattr(score_mod, "__name__", "") == "_identity":
        return
    query, keys = caught.query, caught.key.shape[2]
    b, h, n, _ = query.shape
    bb, hh, i, j = _grid(query, slice(0, n), keys)

    def at(score: float) -> Tensor:
        scores = torch.full((1, 1, 1, 1), score, device=query.device)
        return _each(lambda s, *where: score_mod(s, *where, *buffers), scores, bb, hh, i, j)

    zero, one = at(0.0), at(1.0)
    if all(_close(at(s) - zero, torch.full_like(zero, s)) for s in (1.0, -2.0)):
        if bool((zero != 0).any()):
            caught.added.append(zero)
        return
    if not bool((zero != 0).any()):
        cap = _cap(float(one.flatten()[0]), float(at(30.0).flatten()[0]))
        if cap is not None and all(
            _close(at(s), torch.full_like(one, cap * math.tanh(s / cap))) for s in (-2.0, 1.0, 7.0)
        ):
            caught.softcap = cap
            return
    caught.doubt = "the score_mod is neither a bias nor a soft cap"


def _cap(one: float, thirty: float) -> float | None:
    """The c with c·tanh(30/c) = thirty."""
    if not 0 < thirty < 30:
        return None
    low, high = 1e-3, 1e6
    for _ in range(200):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if middle * math.tanh(30 / middle) < thirty else (low, middle)
    return float(f"{low:.6g}")


def _close(left: Tensor, right: Tensor) -> bool:
    hidden = left.isneginf() | left.isnan()
    return bool((hidden | ((left - right).abs() <= 1e-4 * (1 + right.abs()))).all())

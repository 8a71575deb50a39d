"""Unchanged programs on Sightline: F.scaled_dot_product_attention on the CPU, replaced inside a block.

What is replaced is the operator ``aten::scaled_dot_product_attention`` itself, for the CPU, in PyTorch's
dispatcher: so it does not matter by which name, saved reference or module it is called, nor whether in
training, under no_grad or in inference mode. The replacement is there while any block is open; calls from
threads without an open block go on to PyTorch. The fast paths of ``nn.MultiheadAttention`` and
``nn.TransformerEncoder`` do not call the operator, so they are off while a block is open (for the whole
process), and the slow ones, which do call it, run.

``torch.compile``: a function that is compiled keeps PyTorch's own kernel.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sightline.biases import Bias
from sightline.call.attention import attention
from sightline.common import dispatcher
from sightline.common.check import is_eager
from sightline.lowering import DTYPES
from sightline.masks import Mask, causal

_OPERATOR = torch.ops.aten.scaled_dot_product_attention.default


class sdpa_override:  # noqa: N801  (a context manager, in the manner of torch.no_grad)
    """Within the block every F.scaled_dot_product_attention on the CPU runs on Sightline.

    ``softmax(scale · q·kᵀ + mask) · v`` with PyTorch's own conventions: inputs of 2, 3, 4, 5 and more axes
    that broadcast; ``attn_mask`` bool (True = may look) or float; ``is_causal`` aligned to the top left;
    ``enable_gqa``, ``dropout_p``, ``scale``; gradients. Blocks nest, and end with an error too. The block
    holds for its own thread.

    What PyTorch alone does goes to PyTorch, and is counted: subclasses of Tensor, tensors without entries,
    functions being compiled or transformed by torch.func (:func:`sightline.attention` itself takes every
    transform), what PyTorch refuses (its own error is raised). Nested tensors and other devices have
    operators of their own and never come here.

    Attributes:
        calls: how many calls ran on Sightline in this block.
        fallbacks: how many went to PyTorch, by reason.

    Rows that see nothing give 0, as in PyTorch.

    Example:
        >>> import sightline, torch
        >>> import torch.nn.functional as F
        >>> query, key, value = torch.randn(3, 1, 4, 10, 8)
        >>> with sightline.sdpa_override() as override:
        ...     context = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        >>> override.calls, dict(override.fallbacks)
        (1, {})
    """

    def __init__(self) -> None:
        self.calls = 0
        self.fallbacks: Counter[str] = Counter()
        self._entered = False

    def __enter__(self) -> sdpa_override:
        if self._entered:
            raise RuntimeError("sdpa_override: is open already; make a new one for each block.")
        self._entered = True
        _install()
        _local.blocks.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._entered = False
        _local.blocks.remove(self)
        _uninstall()

    def __repr__(self) -> str:
        fallbacks = f", fallbacks={dict(self.fallbacks)}" if self.fallbacks else ""
        return f"sdpa_override(calls={self.calls}{fallbacks})"


class _Local(threading.local):
    def __init__(self) -> None:
        self.blocks: list[sdpa_override] = []


_local = _Local()
_lock = threading.Lock()
_open = 0
_everywhere = 0  # how often PyTorch's registry activated us, for all threads
_undo: list[Callable[[], object]] = []


def _install() -> None:
    """The replacement, for the first block that opens."""
    global _open
    with _lock:
        _open += 1
        if _open > 1:
            return
        library = torch.library.Library("aten", "IMPL")
        # For inference mode, where nothing is above the CPU, and for everything else.
        for key in ("CPU", "AutogradCPU"):
            library.impl("scaled_dot_product_attention", _replacement, key)
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        _undo.extend((library._destroy, lambda: torch.backends.mha.set_fastpath_enabled(fast)))


def _uninstall() -> None:
    """PyTorch's own again, after the last block."""
    global _open
    with _lock:
        _open -= 1
        if _open == 0:
            while _undo:
                _undo.pop()()


def _replacement(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """What runs in the operator's place."""
    if not _local.blocks and not _everywhere:
        return _pytorch(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    reason = why_not(query, key, value, attn_mask, is_causal, enable_gqa)
    for block in _local.blocks:
        if reason is None:
            block.calls += 1
        else:
            block.fallbacks[reason] += 1
    if reason is not None:
        return _pytorch(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    return scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale)


def _pytorch(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None,
    enable_gqa: bool,
) -> Tensor:
    """PyTorch's own."""
    result: Tensor = _OPERATOR._op_dk(
        torch._C.DispatchKey.CompositeImplicitAutograd,
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa,
    )  # fmt: skip
    return result


def why_not(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    enable_gqa: bool,
) -> str | None:
    """Why a call must go to PyTorch; ``None`` if Sightline can take it."""
    if dispatcher.is_wrapped():
        return "under torch.func"  # inside a kernel its transforms cannot be asked any more
    given = [t for t in (query, key, value, attn_mask) if t is not None]
    if not all(map(is_eager, given)):
        return "while compiling"
    if any(type(t) not in (Tensor, torch.nn.Parameter, torch.nn.Buffer) for t in given):
        return "a subclass of Tensor"
    if any(t.device.type != "cpu" or t.layout is not torch.strided for t in given):
        return "another device or layout"
    if query.dtype not in DTYPES or any(t.dtype != query.dtype for t in (key, value)):
        return "dtypes that PyTorch refuses"
    if any(t.dim() < 2 or 0 in t.shape for t in (query, key, value)):
        return "no entries"
    return _shapes_fit(query, key, value, attn_mask, is_causal, enable_gqa)


def _shapes_fit(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None,
    is_causal: bool,
    enable_gqa: bool,
) -> str | None:
    refused = "arguments that PyTorch refuses"
    if key.shape[-1] != query.shape[-1] or value.shape[-2] != key.shape[-2]:
        return refused
    try:
        lead = _lead(query, key, value, enable_gqa)
        if attn_mask is not None:
            torch.broadcast_shapes((*lead, query.shape[-2], key.shape[-2]), attn_mask.shape)
    except (RuntimeError, ValueError):
        return refused
    if attn_mask is None:
        return None
    if is_causal:
        return "a mask and is_causal"  # not the same in all of PyTorch's kernels
    if attn_mask.dtype != torch.bool and not attn_mask.is_floating_point():
        return refused
    if attn_mask.dtype not in (torch.bool, query.dtype, torch.float32):
        return refused
    if attn_mask.dim() < 2:
        return refused
    if attn_mask.dim() > len(lead) + 2:
        return "a mask with more axes than the query"
    return None


def _lead(query: Tensor, key: Tensor, value: Tensor, enable_gqa: bool) -> tuple[int, ...]:
    """The leading axes of the result, [..., H]."""
    if not enable_gqa:
        return tuple(torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2]))
    heads = query.shape[-3]
    if min(t.dim() for t in (query, key, value)) < 3 or any(heads % t.shape[-3] for t in (key, value)):
        raise ValueError("heads that are no multiple")
    return (*torch.broadcast_shapes(query.shape[:-3], key.shape[:-3], value.shape[:-3]), heads)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """PyTorch's function on Sightline; see there for the arguments. Heads of k and v divide those of q."""
    heads = query.shape[-3] if query.dim() > 2 else 1
    grouped = query.dim() > 2 and 1 < min(key.shape[-3], value.shape[-3]) < heads
    lead = _lead(query, key, value, grouped)
    four = [_four(t, lead, grouped) for t in (query, key, value)]
    mask: Mask | Tensor | None = None
    bias: Bias | Tensor | None = None
    if attn_mask is not None:
        placed = _four_mask(attn_mask, lead)
        mask, bias = (placed, None) if attn_mask.dtype == torch.bool else (None, placed)
    elif is_causal:
        mask = causal(align="top-left")
    context = attention(*four, mask=mask, bias=bias, scale=scale, dropout=dropout_p)
    return context.reshape(*lead, *context.shape[-2:])


def _four(tensor: Tensor, lead: tuple[int, ...], grouped: bool) -> Tensor:
    """[..., H,N,D] -> [B,H,N,D]; what broadcasts is expanded, not copied where that can be avoided."""
    tensor = tensor[(None,) * max(0, len(lead) + 2 - tensor.dim())]
    heads = tensor.shape[-3] if lead else 1
    whole = lead[:-1] + ((heads,) if grouped else lead[-1:]) if lead else ()
    return tensor.expand(*whole, *tensor.shape[-2:]).reshape(
        math.prod(lead[:-1]), whole[-1] if whole else 1, *tensor.shape[-2:]
    )


def _four_mask(mask: Tensor, lead: tuple[int, ...]) -> Tensor:
    """[..., N|1, M|1] -> [1|B, 1|H, N|1, M|1]."""
    mask = mask[(None,) * max(0, max(len(lead), 2) + 2 - mask.dim())]
    if mask.dim() == 4 or all(size == 1 for size in mask.shape[:-3]):
        return mask.reshape(-1, *mask.shape[-3:])
    return mask.expand(*lead[:-1], *mask.shape[-3:]).reshape(math.prod(lead[:-1]), *mask.shape[-3:])


# --- PyTorch's own registry ----------------------------------------------------------------------------


class _Active:
    """What PyTorch's registry holds while Sightline is its attention."""

    def remove(self) -> None:
        """PyTorch's own again."""
        global _everywhere
        _everywhere -= 1
        _uninstall()


def _activate(*_: Any) -> _Active:
    global _everywhere
    _install()
    _everywhere += 1
    return _Active()


def register() -> bool:
    """Puts Sightline into ``torch.nn.attention``'s registry under "sightline", where there is one.

    ``torch.nn.attention.activate_flash_attention_impl("sightline")`` then does for the whole process, all
    threads, what :class:`sdpa_override` does for a block.
    """
    try:
        from torch.nn.attention import register_flash_attention_impl
    except ImportError:  # before torch 2.11
        return False
    register_flash_attention_impl("sightline", register_fn=_activate)
    return True


register()

"""The attention function that Transformers calls in every layer.

Letters: B batch, H query heads, G key/value heads, N queries, M keys, D query/key width, E value width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sightline.call.attention import attention
from sightline.common import dispatcher, several
from sightline.huggingface.range_mask import RangeMask, as_sightline
from sightline.huggingface.shared import check_terms
from sightline.masks import Mask, causal, dense

try:
    from transformers.utils import output_capturing

    collector: Any = output_capturing._active_collector
except (ImportError, AttributeError):  # a version that records outputs otherwise: see _weights_wanted
    collector = None

# Arguments of some families that change their attention and have no counterpart here: an error is better than
# a wrong result.
_UNKNOWN_TERMS = {
    "block_indices": "block-sparse attention",  # MiniMax-M3
    "sinks": "a sink for each query",  # Inkling 2
}


def sightline_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    position_bias: Tensor | None = None,
    indices: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Any]:
    """Attention as Transformers' ``eager`` defines it: ``softmax(cap(scaling · q·k) + bias) · v``.

    Args:
        module: the calling layer; it says whether it trains, and, if there is no mask, whether it is causal.
        query, key, value: [B,H,N,D], [B,G,M,D] and [B,G,M,E]; heads are not repeated.
        attention_mask: bool (True = may look), float (added to the scores), or ``None``: then causal, counted
            from the first key, if N > 1 and ``is_causal`` (or, without it, the module) says so.
        dropout: applied in training only, and never to the recorded weights.
        scaling: the factor of q·k; default 1/√D.
        softcap: Gemma 2's cap on the scaled scores.
        s_aux: [H] attention sinks, in the denominator only.
        position_bias: [1|B,H,N,M] float, T5's relative position bias.
        indices: [B,N,K], the only keys that a query may look at (DeepSeek's sparse attention).
        kwargs: whatever else Transformers passes; ``sliding_window`` among it is already part of the mask.

    Returns:
        The context [B,N,H,E], contiguous, and an AttentionMatrix [B,H,N,M] if the model was asked for
        attentions, otherwise ``None``. Rows with nothing to look at are 0, where ``eager`` gives the mean of
        all values.

    Raises:
        NotImplementedError: for paged caches, block-sparse attention and sinks of single queries.
        TypeError: for a mask that is neither bool nor float.
    """
    _check_supported(kwargs)
    wanted = _weights_wanted(module, kwargs)
    if wanted:
        _check_not_exporting()
        key, value, attention_mask, s_aux = map(_protected, (key, value, attention_mask, s_aux))
    if query.shape[0] != key.shape[0]:  # learned queries may come once for the whole batch
        batch = max(query.shape[0], key.shape[0])
        query, key, value = (tensor.expand(batch, -1, -1, -1) for tensor in (query, key, value))
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    if several.anybody():
        mask, bias = (
            _mask_of_all(attention_mask, is_causal, position_bias=position_bias, indices=indices),
            None,
        )
    else:
        mask, bias = _mask_and_bias(attention_mask, position_bias, query.shape[2], key.shape[2], is_causal)
    terms: dict[str, Any] = {
        "mask": mask if indices is None else _only(indices, key.shape[2], mask), "bias": bias,
        "scale": scaling, "softcap": softcap, "sinks": None if s_aux is None else s_aux.reshape(-1),
        "dropout": dropout if module.training else 0.0,
    }  # fmt: skip
    if wanted:
        context, matrix = _with_matrix(query, key, value, **terms)
    else:
        context, matrix = attention(query, key, value, **terms), None
    return context.transpose(1, 2).contiguous(), matrix


@torch.compiler.disable  # type: ignore[untyped-decorator]  # a graph cannot hold a matrix
def _with_matrix(query: Tensor, key: Tensor, value: Tensor, **terms: Any) -> tuple[Tensor, Any]:
    return attention(query, key, value, **terms, return_matrix=True)


def _mask_and_bias(
    attention_mask: Tensor | None, position_bias: Tensor | None, queries: int, keys: int, is_causal: bool
) -> tuple[Mask | None, Tensor | None]:
    """Splits what Transformers passes as one mask: who may look, and what is added to the scores."""
    if attention_mask is None:
        # As under sdpa: one query is a decoding step and sees all; more of them start at the first key.
        return causal(align="top-left") if is_causal and queries > 1 else None, position_bias
    if isinstance(attention_mask, RangeMask):
        if tuple(attention_mask.shape[2:]) == (queries, keys):
            return as_sightline(attention_mask), position_bias
        attention_mask = attention_mask.dense()  # for other lengths: broadcast or refused
    if attention_mask.dtype == torch.bool:
        return dense(attention_mask), position_bias
    if attention_mask.is_floating_point():
        return None, attention_mask if position_bias is None else position_bias + attention_mask
    raise TypeError(
        f"attention_mask: a 4-D mask must be bool (True = may look) or float (added to the scores), "
        f"got {attention_mask.dtype}. Use attention_mask.bool()."
    )


def _mask_of_all(attention_mask: Tensor | None, is_causal: bool, **others: Tensor | None) -> Mask | None:
    """The mask of a whole sequence that several processes share."""
    if isinstance(attention_mask, RangeMask):
        check_terms(None, others)
        return as_sightline(attention_mask)
    check_terms(attention_mask, others)
    return causal(align="top-left") if is_causal else None


def _only(indices: Tensor, keys: int, mask: Mask | None) -> Mask:
    """The mask, restricted to the K keys that ``indices`` [B,N,K] lists for each query."""
    b, n, _ = indices.shape
    seen = torch.zeros((b, n, keys), dtype=torch.bool, device=indices.device)
    listed = dense(seen.scatter(-1, indices.long(), True)[:, None])
    return listed if mask is None else mask & listed


def _weights_wanted(module: nn.Module, kwargs: dict[str, Any]) -> bool:
    """Whether somebody will read the weights: otherwise nothing is kept alive or copied.

    Transformers records them with hooks on the layers while a collector is active; a few older models
    collect them themselves and say so in an argument or in their configuration.
    """
    if kwargs.get("output_attentions") or collector is None:
        return True
    if getattr(getattr(module, "config", None), "output_attentions", False):
        return True
    return any(name.endswith("attentions") for name in collector.get() or ())


def _protected(tensor: Any) -> Any:
    """A tensor that will not change: a copy if it is likely to be written in place, as key caches are.

    A matrix reads its keys when it is asked, perhaps many tokens later. Static caches write each new key
    into the tensor that was passed here; dynamic ones make new tensors and need no copy. A tensor that has
    been written in place may be written again, and the optimizer writes into parameters.
    """
    if not isinstance(tensor, Tensor) or isinstance(tensor, RangeMask):
        return tensor
    if isinstance(tensor, nn.Parameter):
        return tensor.clone()
    # Tensors made in inference mode do not count how often they were written.
    return tensor.clone() if tensor.is_inference() or tensor._version > 0 else tensor


def _check_not_exporting() -> None:
    """Raises while a program is recorded that could not return what is computed when it is read."""
    # Of the older way to export, as long as PyTorch has it.
    is_tracing = getattr(torch.jit, "is_tracing", None)
    if dispatcher.is_exporting() or is_tracing is not None and is_tracing():
        raise NotImplementedError(
            "output_attentions: an exported program cannot return attentions of "
            'attn_implementation="sightline", which are computed when they are read. Export with '
            'output_attentions=False, or load the model with attn_implementation="eager".'
        )


def _check_supported(kwargs: dict[str, Any]) -> None:
    """Raises for arguments that change the attention and have no counterpart here."""
    if kwargs.get("cache") is not None:
        raise NotImplementedError(
            'attn_implementation="sightline" does not read paged caches (continuous batching). '
            'Use model.generate, or load the model with attn_implementation="sdpa" for generate_batch.'
        )
    for name, what in _UNKNOWN_TERMS.items():
        if kwargs.get(name) is not None:
            raise NotImplementedError(
                f'attn_implementation="sightline" does not support {what} ({name}), which this model uses. '
                'Load it with attn_implementation="eager".'
            )

"""The mask function that Transformers calls: who may look at whom, as key ranges instead of N x M numbers.

Letters: B batch, N queries, M keys. Transformers counts positions from the start of the sequence: query i
stands at ``q_offset + i``, key j at ``kv_offset + j``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, masking_utils
from transformers.utils import logging
from transformers.utils.import_utils import is_tracing

from sightline.huggingface.pattern import edges_agree, ranges_of
from sightline.huggingface.range_mask import RangeMask

theirs: Any = masking_utils  # annotated more narrowly than it is used: offsets may be tensors
logger = logging.get_logger(__name__)
_BLOCK = 1 << 24  # mask entries that are looked at together when a pattern has to be found by trying it


def sightline_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Tensor] = theirs.causal_mask_function,
    attention_mask: Tensor | None = None,
    allow_is_bidirectional_skip: bool = False,
    use_vmap: bool = False,
    device: torch.device | str = "cpu",
    config: Any = None,
    **kwargs: Any,
) -> Tensor | None:
    """The mask of one kind of layer, with the arguments of ``transformers.masking_utils.sdpa_mask``.

    ``seen[b,0,i,j] = mask_function(b, 0, q_offset + i, kv_offset + j) and attention_mask[b, kv_offset + j]``

    Returns:
        A :class:`RangeMask` [B,1,N,M] where every query sees one range of keys (besides padding); a plain
        bool tensor where it does not, or while compiling; ``None`` for a mask that hides nothing and may
        be left out. Models that were not written for bool masks get the float mask of ``eager``.

    Example:
        >>> from sightline.huggingface import sightline_mask
        >>> sightline_mask(1, 3, 3)
        RangeMask(shape=[1, 1, 3, 3], device='cpu')
    """
    call: dict[str, Any] = {
        "batch_size": batch_size,
        "kv_length": kv_length,
        "kv_offset": kv_offset,
        "mask_function": mask_function,
        "attention_mask": attention_mask,
        "use_vmap": use_vmap,
        "device": device,
    }
    if not takes_bool_masks(type(config)):
        kwargs["allow_is_bidirectional_skip"] = allow_is_bidirectional_skip
        return _tensor(theirs.eager_mask(**call, q_length=q_length, q_offset=q_offset, **kwargs))
    if is_tracing(attention_mask) or is_tracing(q_offset if isinstance(q_offset, Tensor) else None):
        return _dense(call, q_length, q_offset)

    shape = (batch_size, 1, q_length, kv_length)
    # The offset of a static cache is a tensor that the cache later changes in place: it is used up here.
    position = (torch.arange(q_length, device=device) + q_offset)[None]
    # A function of the user's own may be anything; and one row, as in decoding, is tried sooner than derived.
    found = None if use_vmap or q_length == 1 else ranges_of(mask_function, position)
    if found is None or not edges_agree(mask_function, position, found, kv_offset, kv_length, batch_size):
        return _by_trying(call, q_length, q_offset)
    low, high = ((bound - kv_offset).clamp(0, kv_length) for bound in found)
    keys = _padding(attention_mask, kv_length, kv_offset)
    if allow_is_bidirectional_skip and keys is None and bool((low == 0).all() & (high == kv_length).all()):
        return None
    return RangeMask(low, high, keys, shape)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def takes_bool_masks(config_class: type) -> bool:
    """Whether the models of a configuration go through the attention interface and know bool masks.

    Models written for ``sdpa`` or ``flex_attention`` do. The others add a float mask to their scores, in
    their own code or in parts of it, and must get one. Models from outside Transformers are trusted: a
    RangeMask that is added to scores says so.
    """
    name = config_class.__module__.replace("configuration_", "modeling_")
    module = sys.modules.get(name)
    return module is None or not name.startswith("transformers.models.") or _family_takes_bool_masks(module)


@cache
def _family_takes_bool_masks(module: ModuleType) -> bool:
    classes = [found for found in vars(module).values() if isinstance(found, type)]
    models: list[Any] = [
        found
        for found in classes
        if PreTrainedModel in found.__bases__ and found.__module__ == module.__name__
    ]
    if not all(model._can_set_attn_implementation() for model in models):
        logger.warning(
            f"{module.__name__.rsplit('.', 1)[-1]} computes attention in its own code, which "
            'attn_implementation="sightline" cannot replace: it runs as under "eager".'
        )
        return False
    return all(model._supports_sdpa or model._supports_flex_attn for model in models)


def _dense(call: dict[str, Any], q_length: int, q_offset: int | Tensor) -> Tensor:
    """[B,1,N,M] bool, by Transformers' own means."""
    mask = theirs.sdpa_mask(**call, q_length=q_length, q_offset=q_offset, allow_is_causal_skip=False)
    assert isinstance(mask, Tensor)
    return mask


def _tensor(mask: Any) -> Tensor | None:
    assert mask is None or isinstance(mask, Tensor)
    return mask


def _padding(attention_mask: Tensor | None, kv_length: int, kv_offset: int) -> Tensor | None:
    """[B,M] bool, False for padding; ``None`` where there is none."""
    padding = theirs.prepare_padding_mask(attention_mask, kv_length, kv_offset)
    if padding is None:
        return None
    keys: Tensor = padding[:, kv_offset : kv_offset + kv_length].bool()
    return None if bool(keys.all()) else keys.clone()  # the caller's tensor may change later


def _by_trying(call: dict[str, Any], q_length: int, q_offset: int | Tensor) -> Tensor:
    """The mask of a function that is not known: evaluated by blocks of rows, so that ranges stay ranges."""
    shape = (call["batch_size"], 1, q_length, call["kv_length"])
    if 0 in shape:
        return _dense(call, q_length, q_offset)
    rows = max(1, _BLOCK // max(1, shape[0] * shape[3]))

    lows, highs = [], []
    for start in range(0, q_length, rows):
        part = _dense(call, min(rows, q_length - start), q_offset + start)
        count = part.sum(-1)
        low = part.byte().argmax(-1)
        last = shape[3] - 1 - part.flip(-1).byte().argmax(-1)
        if part.shape[1] != 1 or bool(((count > 0) & (last - low + 1 != count)).any()):
            return _dense(call, q_length, q_offset)
        lows.append(low[:, 0])
        highs.append((low + count)[:, 0])
    return RangeMask(torch.cat(lows, 1), torch.cat(highs, 1), None, shape)

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
from transformers.utils.import_utils import is_tracing

from sightline.common import several
from sightline.huggingface.fallback import runs_here, say_so
from sightline.huggingface.pattern import edges_agree, ranges_of
from sightline.huggingface.range_mask import RangeMask
from sightline.huggingface.shared import mask_call_of_all, unknown_mask

theirs: Any = masking_utils  # its annotations are narrower than its use: offsets may be tensors
_BLOCK = 1 << 24  # the most mask entries that are evaluated at once where a pattern is not known


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
        A :class:`RangeMask` [B,1,N,M] where every query sees one range of keys (apart from padding); a plain
        bool tensor where it does not, or while compiling; ``None`` for a mask that hides nothing and may be
        left out. Models that were not written for bool masks get the float mask of ``eager``. Where several
        processes share a sequence it is the mask of the whole.

    Raises:
        NotImplementedError: inside of :func:`sightline.distributed.context_parallel`, for masks that are not
            known to be key ranges.

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
    takes_bool = takes_bool_masks(type(config))
    if several.anybody():
        call, q_length = mask_call_of_all(call, config, takes_bool)
        return _of_all(call, q_length, allow_is_bidirectional_skip)
    if not takes_bool:
        kwargs["allow_is_bidirectional_skip"] = allow_is_bidirectional_skip
        return _tensor(theirs.eager_mask(**call, q_length=q_length, q_offset=q_offset, **kwargs))
    if is_tracing(attention_mask) or is_tracing(q_offset if isinstance(q_offset, Tensor) else None):
        return _dense(call, q_length, q_offset)
    # One row, as in decoding, is evaluated faster than derived; a user's own function may be anything.
    bounds = None if use_vmap or q_length == 1 else _bounds(call, q_length, q_offset)
    if bounds is None:
        mask = _evaluated(call, q_length, q_offset)
    else:
        keys = _padding(attention_mask, kv_length, kv_offset)
        mask = RangeMask(*bounds, keys, (batch_size, 1, q_length, kv_length))
    return None if allow_is_bidirectional_skip and _hides_nothing(mask) else mask


def _of_all(call: dict[str, Any], q_length: int, may_skip: bool) -> Tensor | None:
    """The mask of a whole sequence that several processes share."""
    bounds = _bounds(call, q_length, 0)
    if bounds is None:
        raise unknown_mask()
    keys = _padding(call["attention_mask"], q_length, 0)
    mask = RangeMask(*bounds, keys, (call["batch_size"], 1, q_length, q_length))
    return None if may_skip and _hides_nothing(mask) else mask


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def takes_bool_masks(config_class: type) -> bool:
    """Whether the models of a configuration go through the attention interface and know bool masks.

    Models written for ``sdpa`` or ``flex_attention`` do. The others add a float mask to their scores, in
    all or in parts of their own code, and must get one. Models from outside Transformers are trusted: adding
    a RangeMask to scores raises an error.
    """
    name = config_class.__module__.replace("configuration_", "modeling_")
    module = sys.modules.get(name)
    return (
        module is None
        or not name.startswith("transformers.models.")
        or _take_bool_masks(module, config_class)
    )


@cache
def _take_bool_masks(module: ModuleType, config_class: type) -> bool:
    models: list[Any] = [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, PreTrainedModel) and kind.__module__ == module.__name__
    ]
    if not all(map(runs_here, models)):
        say_so(module.__name__.rsplit(".", 1)[-1])
        return False
    # One part of a model may be written for other masks than the rest: an encoder of sound, say.
    own = [model for model in models if model.config_class is config_class]
    return all(model._supports_sdpa or model._supports_flex_attn for model in own or models)


def _bounds(call: dict[str, Any], q_length: int, q_offset: int | Tensor) -> tuple[Tensor, Tensor] | None:
    """The first key of each query and the one after its last; ``None`` if the mask function is not known."""
    function, first, length = call["mask_function"], call["kv_offset"], call["kv_length"]
    # A static cache later changes its offset, a tensor, in place: nothing here keeps it.
    position = (torch.arange(q_length, device=call["device"]) + q_offset)[None]
    bounds = ranges_of(function, position)
    if bounds is None or not edges_agree(function, position, bounds, first, length, call["batch_size"]):
        return None
    low, high = ((bound - first).clamp(0, length) for bound in bounds)
    return low, high


def _hides_nothing(mask: Tensor) -> bool:
    if not isinstance(mask, RangeMask):
        return bool(mask.all())
    full = (mask.low <= 0).all() & (mask.high >= mask.shape[3]).all()
    return mask.keys is None and bool(full)


def _dense(call: dict[str, Any], q_length: int, q_offset: int | Tensor) -> Tensor:
    """[B,1,N,M] bool, computed by Transformers itself."""
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


def _evaluated(call: dict[str, Any], q_length: int, q_offset: int | Tensor) -> Tensor:
    """The mask of an unknown function, evaluated in blocks of rows; key ranges where its rows are ranges."""
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

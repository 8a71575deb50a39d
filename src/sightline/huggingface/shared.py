"""Models of Transformers whose sequence is on several processes: what they are told, and masks of all of it.

A model numbers its tokens from 0 and makes masks for the tokens that it is given. Inside of
``context_parallel`` these are a part of a sequence, so that its positions must be handed over, and its mask
functions, which count from the first token that it sees, are made again for the whole.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, masking_utils

from sightline.common import several
from sightline.huggingface.pattern import closure_of

theirs: Any = masking_utils
_NAME = "sightline"
_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}


class Whole(NamedTuple):
    """What is said of all tokens of a sequence.

    Attributes:
        positions: [1|B,N] as the model was given them; they begin anew where another text is packed.
        real: [B,N] bool, False for padding; ``None`` where no mask was given.
    """

    positions: Tensor
    real: Tensor | None


_running: list[Whole] = []


@contextmanager
def told() -> Iterator[None]:
    """A block in which a model that is called finds out what the other processes hold."""
    before = PreTrainedModel.__call__

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # numbers of other processes are in no graph
    def call(model: PreTrainedModel, *args: Any, **kwargs: Any) -> Any:
        if _running:  # a part of a model that is running
            return before(model, *args, **kwargs)
        given = _given(model, args, kwargs)
        _check(model, given)
        if given.get("use_cache", False) is None:
            kwargs["use_cache"] = False
        _running.append(_whole(given))
        try:
            return before(model, *args, **kwargs)
        finally:
            _running.pop()

    PreTrainedModel.__call__ = call  # type: ignore[method-assign]
    try:
        yield
    finally:
        PreTrainedModel.__call__ = before  # type: ignore[method-assign]


several.beside.append(told)


def mask_call_of_all(call: dict[str, Any], config: Any, takes_bool: bool) -> tuple[dict[str, Any], int]:
    """The arguments of a mask function, and the number of queries, for the whole sequence.

    Args:
        call: those for the process's own rows.
        config: of the model.
        takes_bool: whether its code takes masks that are not stored as numbers.
    """
    if not _running:
        raise RuntimeError(
            "context_parallel: sightline.huggingface was imported inside of the block. Import it before."
        )
    if not takes_bool:
        raise _refused(f"a {type(config).__name__} makes masks of its own from N x M numbers")
    whole = _running[-1]
    function = _of_all(call["mask_function"], whole)
    if whole.real is None and _is_causal(call["mask_function"]):
        texts = theirs.find_packed_sequence_indices(whole.positions)
        if texts is not None:
            batch = call["batch_size"]
            function = theirs.packed_sequence_compatibility_function(
                function, whole.positions.expand(batch, -1), texts.expand(batch, -1)
            )
    length = whole.positions.shape[1]
    changed = {"kv_length": length, "mask_function": function, "attention_mask": whole.real}
    return call | changed, length


def unknown_mask() -> NotImplementedError:
    """The error for a mask whose key ranges are not known."""
    return _refused("this model makes a mask that is not known to be one of key ranges")


def check_terms(attention_mask: Tensor | None, others: dict[str, Any]) -> None:
    """Raises for what a layer hands over besides a mask of ranges: it is of the process's own keys."""
    for name, term in ({"attention_mask": attention_mask} | others).items():
        if term is not None:
            raise _refused(f"this model passes {name} of shape {list(term.shape)}, for its own keys alone")


def _of_all(function: Callable[..., Tensor], whole: Whole) -> Callable[..., Tensor]:
    """A mask function of Transformers with what it knows of single tokens taken from all of them."""
    name = _qualname(function)
    if not hasattr(function, "__code__"):
        raise unknown_mask()
    known = closure_of(function)
    if name == "and_masks.<locals>.and_mask":
        parts = [_of_all(one, whole) for one in known["mask_functions"] if _qualname(one) not in _PACKED]
        inside = [_of_all(closure_of(one)["mask_function"], whole)
                  for one in known["mask_functions"] if _qualname(one) == _REMAPPED]  # fmt: skip
        made: Callable[..., Tensor] = theirs.and_masks(*inside, *parts)
        return made
    if name == "chunked_overlay.<locals>.inner_mask":
        padding = known["left_padding"]
        if whole.real is not None:
            padding = (whole.real.long().cumsum(-1) == 0).sum(-1).to(padding)
        chunked: Callable[..., Tensor] = theirs.chunked_overlay(known["chunk_size"], padding)
        return chunked
    if any(isinstance(one, Tensor) or callable(one) for one in known.values()):
        raise unknown_mask()
    return function


_REMAPPED = "remap_positions_for_packed_sequence.<locals>.inner_mask"
_PACKED = ("packed_sequence_mask_function.<locals>.inner_mask", _REMAPPED)


def _qualname(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", "")


def _is_causal(function: Callable[..., Tensor]) -> bool:
    """Whether the causal rule is in it: packed texts are kept apart in such masks alone."""
    if function is theirs.causal_mask_function:
        return True
    known = closure_of(function) if hasattr(function, "__code__") else {}
    inside = [
        *known.get("mask_functions", ()),
        *([known["mask_function"]] if "mask_function" in known else []),
    ]
    return any(map(_is_causal, inside))


def _given(model: PreTrainedModel, args: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, those that were left out with their defaults."""
    signature = inspect.signature(model.forward)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    given = dict(bound.arguments)
    for one in signature.parameters.values():
        if one.kind is inspect.Parameter.VAR_KEYWORD:
            given |= given.pop(one.name)
    return given


def _check(model: PreTrainedModel, given: dict[str, Any]) -> None:
    config = model.config
    kind = type(model).__name__
    if getattr(config, "_attn_implementation", _NAME) != _NAME:
        raise ValueError(
            f"context_parallel: {kind} has attn_implementation={config._attn_implementation!r}, which sees "
            f'this process\'s tokens alone. Call model.set_attn_implementation("{_NAME}").'
        )
    others = set(getattr(config, "layer_types", None) or ()) - _ATTENTION
    if getattr(model, "_is_stateful", False) or others:
        raise _refused(
            f"{kind} has layers that go from token to token without attention {sorted(others) or ''}"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise _refused(f"{kind} has two sequences, a source and a target")
    if "position_ids" not in given:
        raise _refused(f"{kind} takes no position_ids, so that it cannot be told where its tokens stand")
    if given["position_ids"] is None:
        raise ValueError(
            f"context_parallel: {kind} would number these tokens from 0. Pass position_ids= [1|B,n], "
            "where they stand in the whole: batch.positions[None] of sightline.distributed.next_tokens."
        )
    if given["position_ids"].dim() != 2:
        raise _refused(f"{kind} has position_ids of {given['position_ids'].dim()} axes")
    if given.get("past_key_values") is not None or given.get("use_cache"):
        raise _refused(f"{kind} keeps keys in a cache (use_cache=True or past_key_values)")
    if given.get("labels") is not None and given.get("shift_labels") is None:
        raise ValueError(
            "labels: Transformers shifts them inside of this process's part, where the label of its last "
            "token is missing. Compute the loss from the logits and batch.labels of "
            "sightline.distributed.next_tokens, or pass these as shift_labels=, too."
        )


def _whole(given: dict[str, Any]) -> Whole:
    from sightline.distributed import unshard  # late: it takes torch.distributed, which few need

    mask, positions = given.get("attention_mask"), given["position_ids"]
    if mask is not None and (mask.dim() != 2 or mask.shape[1] != positions.shape[1]):
        raise ValueError(
            f"attention_mask: shape {list(mask.shape)} is not that of this process's tokens [B,n], n="
            f"{positions.shape[1]}. Cut it with sightline.distributed.shard(mask, 1)."
        )
    whole = unshard(positions.long(), 1)
    return Whole(whole, None if mask is None else unshard(mask.to(torch.uint8), 1).bool())


def _refused(why: str) -> NotImplementedError:
    return NotImplementedError(
        f"context_parallel: {why}, which is not split over several processes. Leave the block, or use a "
        "model of sightline.models."
    )

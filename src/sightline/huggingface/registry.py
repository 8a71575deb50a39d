"""Enters Sightline in the two registers of Transformers."""

from __future__ import annotations

from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from sightline.huggingface.attention import sightline_attention
from sightline.huggingface.mask import sightline_mask

NAME = "sightline"


def register(name: str = NAME) -> None:
    """Registers the attention and its mask function under ``name``; again does no harm.

    Args:
        name: what ``attn_implementation=`` is then called.

    Raises:
        RuntimeError: if Transformers does not list both afterwards. A name without a mask function would
            let every model look at its padding.

    Example:
        >>> import sightline.huggingface
        >>> sightline.huggingface.register()
    """
    AttentionInterface.register(name, sightline_attention)
    AttentionMaskInterface.register(name, sightline_mask)
    if name not in ALL_ATTENTION_FUNCTIONS or name not in ALL_MASK_ATTENTION_FUNCTIONS:
        raise RuntimeError(
            f"transformers did not take {name!r} into both its attention and its mask functions. "
            "Without the mask function padding would be looked at; please report this."
        )

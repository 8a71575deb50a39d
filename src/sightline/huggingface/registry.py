"""Registers Sightline with Transformers."""

from __future__ import annotations

from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface

from sightline.huggingface.attention import sightline_attention
from sightline.huggingface.configuration import allow_output_attentions
from sightline.huggingface.fallback import fall_back_to_eager
from sightline.huggingface.mask import sightline_mask

NAME = "sightline"


def register(name: str = NAME) -> None:
    """Registers the attention and its mask function under ``name``; doing so again is harmless.

    Args:
        name: what to give as ``attn_implementation=``.

    Raises:
        RuntimeError: if Transformers does not list both afterwards. Without a mask function every model would
            look at its padding.

    Example:
        >>> import sightline.huggingface
        >>> sightline.huggingface.register()
    """
    AttentionInterface.register(name, sightline_attention)
    AttentionMaskInterface.register(name, sightline_mask)
    if name not in ALL_ATTENTION_FUNCTIONS or name not in ALL_MASK_ATTENTION_FUNCTIONS:
        raise RuntimeError(
            f"transformers did not register {name!r} for both attention and masks. "
            "Without the mask function padding would be looked at; please report this."
        )
    allow_output_attentions(name)
    fall_back_to_eager(name)

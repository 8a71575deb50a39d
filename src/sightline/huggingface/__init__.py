"""Sightline as an attention implementation of Hugging Face Transformers.

Importing this module registers two functions under the name ``"sightline"``: the attention itself, and the
one that says which keys each query may look at. Both are needed: without the second, Transformers passes no
mask at all, and padding is looked at without an error.

Example:
    >>> import sightline.huggingface
    >>> from transformers import BertConfig, BertModel
    >>> config = BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    >>> model = BertModel._from_config(config, attn_implementation="sightline")
    >>> model.config._attn_implementation
    'sightline'
"""

from __future__ import annotations

from sightline.huggingface.requirement import check_transformers

check_transformers()

from sightline.huggingface.attention import sightline_attention  # noqa: E402  (the check comes first)
from sightline.huggingface.eviction import evict  # noqa: E402
from sightline.huggingface.mask import sightline_mask  # noqa: E402
from sightline.huggingface.registry import NAME, register  # noqa: E402
from sightline.nn.acceleration import accelerate  # noqa: E402

__all__ = ["NAME", "accelerate", "evict", "register", "sightline_attention", "sightline_mask"]

register()

"""The published families that are known."""

from __future__ import annotations

from sightline.models.published.bart import BART
from sightline.models.published.bert import BERT
from sightline.models.published.family import Family
from sightline.models.published.gpt2 import GPT2
from sightline.models.published.vit import VIT

FAMILIES: dict[str, Family] = {"bert": BERT, "gpt2": GPT2, "bart": BART, "marian": BART, "vit": VIT}
"""By what Transformers calls a ``model_type``."""

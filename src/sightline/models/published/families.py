"""The published families that are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from sightline.models.published import bart, bert, gpt2, vit
from sightline.models.published.weights import Weights


class Family(NamedTuple):
    """What to know about a published family.

    Attributes:
        model: the name of our class.
        config: from their configuration and architecture to the settings of ours.
        carry: carries the weights over from their model, with the head of that name.
    """

    model: str
    config: Callable[[Any, str], dict[str, Any]]
    carry: Callable[[Weights, Any, str], None]


FAMILIES: dict[str, Family] = {
    "bert": Family("Encoder", bert.config, bert.carry),
    "gpt2": Family("Decoder", gpt2.config, gpt2.carry),
    "bart": Family("EncoderDecoder", bart.config, bart.carry),
    "marian": Family("EncoderDecoder", bart.config, bart.carry),
    "vit": Family("VisionEncoder", vit.config, vit.carry),
}

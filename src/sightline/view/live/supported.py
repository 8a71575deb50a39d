"""What of ``sightline.models`` the runtime in ``web/live/`` computes; anything else is refused by name."""

from __future__ import annotations

from typing import Any, get_args

from torch import nn

from sightline.common.errors import CommandError
from sightline.models import Decoder, Encoder, EncoderDecoder, Model
from sightline.models.config import Pooling, Positions
from sightline.nn.feed_forward import Activation
from sightline.nn.norm import Norm

_MODELS = (Encoder, Decoder, EncoderDecoder)

#: Settings whose words the runtime knows; numbers and flags are all computed.
_WORDS: dict[str, tuple[str, ...]] = {
    "positions": ("learned", "sinusoidal", "sinusoidal-halves", "rotary", "alibi", "relative", "none"),
    "activation": ("gelu", "gelu_tanh", "relu", "silu", "swiglu", "geglu"),
    "norm": ("layer", "rms"),
    "pooling": ("first", "mean"),
    "head": ("none", "masked-token", "classification", "token-classification"),
}

#: Settings that the runtime computes, or that say nothing of a finished model.
_KNOWN = {
    *_WORDS, "width", "heads", "layers", "decoder_layers", "kv_heads", "hidden", "vocabulary", "segments",
    "classes", "pooler", "max_positions", "window", "norm_first", "norm_eps", "bias", "dropout",
    "attention_dropout", "embedding_norm", "embedding_scale", "tied", "head_bias", "copying", "pad", "start",
    "end", "rotary_share", "global_every",
}  # fmt: skip


def check_supported(model: Any) -> Model:
    """The model, if a page can run it.

    Raises:
        CommandError: it is no text model of ``sightline.models``, or has a setting or a layer that the page's
            runtime does not compute; the message names it.
    """
    if type(model) not in _MODELS:
        names = ", ".join(each.__name__ for each in _MODELS)
        raise CommandError(
            f"a page runs text models of sightline.models ({names}), and this is a {type(model).__name__}"
        )
    for name, value in model.config.to_dict().items():
        if name not in _KNOWN:
            raise CommandError(f"{name}: a page cannot run models with this setting (it is {value!r} here)")
        if name in _WORDS and value not in _WORDS[name]:
            raise CommandError(f"{name}: a page cannot run {value!r}; it runs {', '.join(_WORDS[name])}")
    _check_layers(model)
    checked: Model = model
    return checked


def _check_layers(model: nn.Module) -> None:
    """A model is more than its configuration where somebody put other layers into it."""
    fresh = {name: type(each) for name, each in type(model)(model.config).named_modules()}
    for name, module in model.named_modules():
        if fresh.get(name) is not type(module):
            raise CommandError(
                f"{name or 'the model'}: a page cannot run a {type(module).__name__} in this place"
            )


def settings_known() -> dict[str, tuple[str, ...]]:
    """Words by setting, as ``sightline.models`` has them; a test holds the runtime against them."""
    return {
        "positions": get_args(Positions),
        "activation": get_args(Activation),
        "norm": get_args(Norm),
        "pooling": get_args(Pooling),
    }

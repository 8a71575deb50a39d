"""Settings of a configuration, each checked by its annotation."""

from __future__ import annotations

from types import NoneType
from typing import Any, get_args

from sightline.common.check import choice, flag, integer, number, share

_LEAST = {
    "width": 1,
    "heads": 1,
    "layers": 1,
    "decoder_layers": 1,
    "kv_heads": 1,
    "hidden": 1,
    "window": 1,
    "global_every": 1,
    "max_positions": 1,
    "image_size": 1,
    "patch_size": 1,
    "channels": 1,
    "features": 1,
    "convolution": 1,
    "stem": 0,
    "segments": 0,
    "vocabulary": 0,
    "classes": 0,
}


def checked(name: str, value: Any, annotation: Any) -> Any:
    """The value as a configuration holds it, an int of NumPy as one of Python.

    Args:
        name: of the setting.
        value: what was given.
        annotation: a number, bool, a Literal of words, or one of these or None.

    Raises:
        TypeError: for another kind; ValueError: for another word, or a number out of range.
    """
    kinds = get_args(annotation)
    if kinds and all(isinstance(word, str) for word in kinds):
        choice(name, value, kinds)
        return value
    if value is None and NoneType in kinds:
        return None
    kind = annotation if isinstance(annotation, type) else next(one for one in kinds if one is not NoneType)
    if kind is bool:
        return flag(name, value)
    if kind is int:
        return integer(name, value, _LEAST.get(name))
    return share(name, value) if name.endswith(("dropout", "share")) else number(name, value, 0)

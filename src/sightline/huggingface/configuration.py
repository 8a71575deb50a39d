"""Lets a configuration ask for attentions under Sightline.

Transformers takes ``output_attentions=True`` in a configuration under ``eager`` alone: none of the other
implementations that it knows returns weights. Ours does. Two places refuse: the setter of the property, and a
validator that runs when a configuration is made, loaded and saved. Neither has a hook, so both are replaced,
and ask the original wherever the implementation is not ours. A version of Transformers that lacks one of them
refuses nothing there, and nothing is replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Any

from transformers import PreTrainedConfig

_PROPERTY = "output_attentions"
_STORED = "_output_attentions"
_VALIDATOR = "validate_output_attentions"
_with_weights: set[str] = set()  # the implementations whose models return weights


def allow_output_attentions(name: str) -> None:
    """Lets a configuration have ``output_attentions=True`` where ``attn_implementation`` is ``name``."""
    _with_weights.add(name)
    _replace_once()


@cache
def _replace_once() -> None:
    replace_setter(PreTrainedConfig)
    replace_validator(PreTrainedConfig)


def replace_setter(base: type) -> None:
    """Lets ``config.output_attentions = True`` through, if it is this property that refuses it."""
    old = vars(base).get(_PROPERTY)
    # If the value is kept elsewhere, their error is better than a value that nobody reads.
    if not isinstance(old, property) or old.fset is None or _STORED not in old.fset.__code__.co_names:
        return
    refuse = old.fset

    @wraps(refuse)
    def setter(config: Any, value: Any) -> None:
        if value and _returns_weights(config):
            setattr(config, _STORED, value)
        else:
            refuse(config, value)

    setattr(base, _PROPERTY, old.setter(setter))


def replace_validator(base: type) -> None:
    """Lets the validator pass what runs under Sightline, in ``base`` and every class made from it."""
    refuse: Callable[[Any], None] | None = vars(base).get(_VALIDATOR)
    if refuse is None:
        return

    @wraps(refuse)
    def validate(config: Any) -> None:
        if not _returns_weights(config):
            refuse(config)

    setattr(base, _VALIDATOR, validate)
    # Each class listed its validators when it was defined; those to come will list the new one.
    for kind in _with_subclasses(base):
        listed = vars(kind).get("__class_validators__", [])
        listed[:] = [validate if each is refuse else each for each in listed]


def _returns_weights(config: Any) -> bool:
    """Whether the model of a configuration, or one of its parts, runs under Sightline."""
    if getattr(config, "_attn_implementation", None) in _with_weights:
        return True
    parts = getattr(config, "sub_configs", None) or ()
    return any(_returns_weights(getattr(config, part, None)) for part in parts)


def _with_subclasses(kind: type) -> Iterator[type]:
    yield kind
    children: list[type] = kind.__subclasses__()
    for child in children:
        yield from _with_subclasses(child)

"""Settings of published models in our words."""

from __future__ import annotations

from typing import Any

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def activation(name: str) -> str:
    """Our name for an activation.

    Raises:
        ValueError: for one that is not known.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"source: activation {name!r} is not supported; known: {', '.join(_ACTIVATIONS)}.")
    return _ACTIVATIONS[name]


def token(number: Any, vocabulary: int) -> int | None:
    """A token id, or ``None`` where the model has none; some configurations name one that does not exist."""
    return number if isinstance(number, int) and 0 <= number < vocabulary else None


def refuse(their_config: Any, **expected: Any) -> None:
    """Raises for settings of theirs that would change the results and are not supported here.

    Raises:
        ValueError: naming the setting, its value and the supported one.
    """
    for name, value in expected.items():
        given = getattr(their_config, name, value)
        if given != value:
            raise ValueError(f"source: {name}={given!r} is not supported, only {value!r}.")

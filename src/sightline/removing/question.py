"""What is asked of a model: an input, a number that is made of the output, and what the tokens are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from sightline.common.check import shown


class Question(NamedTuple):
    """A question to a model.

    Attributes:
        model: the model.
        inputs: a tensor, a tuple of arguments, or a mapping of named ones.
        metric: makes a number of the model's output.
        tokens: what the tokens are called, where that is known.
        about: what the number is, in words.
        notices: what to tell of the input.
    """

    model: Any
    inputs: Any
    metric: Callable[[Any], Any]
    tokens: tuple[str, ...] = ()
    about: str = "metric"
    notices: tuple[str, ...] = ()


def mean_log_probability(logits: Tensor, ids: Tensor) -> Tensor:
    """Of the tokens [B,N] that logits [B,N,V] stand before."""
    return logits.double().log_softmax(-1).gather(-1, ids[..., None]).mean()


class Given(NamedTuple):
    """Arguments of a call of the model."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def given(inputs: Any) -> Given:
    """Inputs as arguments.

    Raises:
        TypeError: for another kind of inputs.
    """
    if isinstance(inputs, Tensor):
        return Given((inputs,), {})
    if isinstance(inputs, Mapping):
        return Given((), dict(inputs))
    if isinstance(inputs, tuple):
        return Given(inputs, {})
    raise TypeError(
        "inputs: must be a tensor, a tuple of arguments, a dictionary of named ones, or a list of these, got "
        f"{shown(inputs)}."
    )

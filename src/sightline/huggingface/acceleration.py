"""What of a model of Transformers is accelerated: its Conv1D layers and its attention implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from sightline.huggingface.registry import NAME
from sightline.products import Packable, linear


class LinearConv1D(Conv1D, Packable):
    """GPT-2's linear layer, whose weight [C,F] lies the other way round, multiplied in the fastest way."""

    def forward(self, x: Tensor) -> Tensor:
        """x [..., C] → [..., F]."""
        return linear(x, self.weight.t(), self.bias, self.packed)


def pretrained(
    model: nn.Module,
) -> tuple[dict[type, type], list[str], dict[str, str], list[Callable[[], None]]]:
    """What :func:`sightline.accelerate` does to models of Transformers inside of ``model``.

    Returns:
        Classes of layers and ours instead; names of models whose attention is Sightline's now; why that of
        others is not; and what takes the changes back.
    """
    models = {name: one for name, one in model.named_modules() if isinstance(one, PreTrainedModel)}
    before = [(config, config._attn_implementation_internal) for config in _configs(models.values())]

    def undo() -> None:
        for config, implementation in before:
            config._attn_implementation_internal = implementation

    left: dict[str, str] = {}
    for name, one in models.items():
        if any(name != outer and (not outer or name.startswith(f"{outer}.")) for outer in models):
            continue  # the model around it has seen to it
        try:
            one.set_attn_implementation(NAME)
        except ValueError as error:
            left[name or type(one).__name__] = str(error).partition("\n")[0]
    ours: list[str] = []
    for name, one in models.items():
        if one.config._attn_implementation == NAME:
            ours.append(name or type(one).__name__)
        else:
            left.setdefault(
                name or type(one).__name__, "Transformers cannot set its attention implementation"
            )
    return {Conv1D: LinearConv1D}, ours, left, [undo]


def _configs(models: Iterable[Any]) -> list[Any]:
    """The configurations of models and of their parts, each once."""
    found: dict[int, Any] = {}
    waiting = [one.config for one in models]
    while waiting:
        config = waiting.pop()
        if config is None or id(config) in found:
            continue
        found[id(config)] = config
        waiting += [getattr(config, name, None) for name in getattr(config, "sub_configs", {})]
    return list(found.values())

"""Tensors of a published model, each carried over once, and none forgotten."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Weights:
    """The tensors of a model of Transformers, by name.

    Args:
        tensors: its ``state_dict``.
        model: ours, which is to be filled.
    """

    def __init__(self, tensors: dict[str, Tensor], model: nn.Module) -> None:
        self._tensors, self._model = tensors, model
        self._filled: set[int] = set()

    def copy(self, ours: Tensor, theirs: str | Tensor) -> None:
        """One tensor.

        Raises:
            ValueError: if it is missing or has another shape.
        """
        tensor = self.get(theirs) if isinstance(theirs, str) else theirs
        if ours.shape != tensor.shape:
            name = theirs if isinstance(theirs, str) else "a part of a tensor"
            raise ValueError(f"source: {name} has shape {list(tensor.shape)}, expected {list(ours.shape)}.")
        with torch.no_grad():
            ours.copy_(tensor)
        self._filled.add(id(ours))

    def get(self, theirs: str) -> Tensor:
        """The published tensor itself."""
        if theirs not in self._tensors:
            raise ValueError(f"source: has no {theirs}.")
        return self._tensors[theirs]

    def layer(self, ours: nn.Module, theirs: str) -> None:
        """A projection, a convolution, an embedding or a norm: its weight, and its bias if it has one."""
        for name, parameter in ours.named_parameters(recurse=False):
            self.copy(parameter, f"{theirs}.{name}")

    def layers(self, ours: nn.Module, theirs: dict[str, str]) -> None:
        """Several layers inside ``ours``, by the names of both."""
        for mine, name in theirs.items():
            self.layer(ours.get_submodule(mine), name)

    def finish(self, except_under: tuple[str, ...] = ()) -> None:
        """Refuses a model of which some parameter was not filled.

        Args:
            except_under: names of modules of ours that start anew.
        """
        for name, parameter in self._model.named_parameters():
            if id(parameter) not in self._filled and not name.startswith(except_under):
                raise ValueError(f"source: has nothing for {name}.")

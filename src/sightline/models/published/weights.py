"""Tensors of a published model, each carried over once, and none forgotten."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PublishedWeights:
    """The tensors of a model of Transformers, and ours that they fill, both by name.

    Args:
        tensors: its ``state_dict``.
        model: ours, which is to be filled.
    """

    def __init__(self, tensors: dict[str, Tensor], model: nn.Module) -> None:
        self._tensors, self._model = tensors, model
        self._ours = dict(model.named_parameters())
        self._filled: set[str] = set()

    def wants(self, ours: str) -> bool:
        """Whether our model has such a parameter."""
        return ours in self._ours

    def get(self, theirs: str) -> Tensor:
        """The published tensor itself.

        Raises:
            ValueError: if it is missing.
        """
        if theirs not in self._tensors:
            raise ValueError(f"source: has no {theirs}.")
        return self._tensors[theirs]

    def copy(self, ours: str, theirs: str | Tensor) -> None:
        """One tensor into our parameter of that name.

        Raises:
            ValueError: if it is missing or has another shape.
        """
        tensor = self.get(theirs) if isinstance(theirs, str) else theirs
        parameter = self._ours[ours]
        if parameter.shape != tensor.shape:
            name = theirs if isinstance(theirs, str) else "a part of a tensor"
            raise ValueError(
                f"source: {name} has shape {list(tensor.shape)}, expected {list(parameter.shape)}."
            )
        with torch.no_grad():
            parameter.copy_(tensor)
        self._filled.add(ours)

    def layers(self, names: dict[str, str], ours: str = "", theirs: str = "") -> None:
        """Projections, convolutions, embeddings and norms: their weights, and biases where ours have one.

        Args:
            names: of our layers → of theirs.
            ours, theirs: what all names begin with.
        """
        for mine, name in names.items():
            for parameter, _ in self._model.get_submodule(ours + mine).named_parameters(recurse=False):
                self.copy(f"{ours}{mine}.{parameter}", f"{theirs}{name}.{parameter}")

    def blocks(self, ours: str, theirs: str, names: dict[str, str]) -> None:
        """As :meth:`layers`, for each block of a list."""
        for i in range(self.count(ours)):
            self.layers(names, f"{ours}.{i}.", f"{theirs}.{i}.")

    def count(self, ours: str) -> int:
        """How many blocks our list of that name has."""
        return sum(1 for _ in self._model.get_submodule(ours).children())

    def finish(self, except_under: tuple[str, ...] = ()) -> None:
        """Raises for a model of which some parameter was not filled.

        Args:
            except_under: names of modules of ours that start anew.

        Raises:
            ValueError: naming the parameter.
        """
        for name in self._ours:
            if name not in self._filled and not name.startswith(except_under):
                raise ValueError(f"source: has nothing for {name}.")

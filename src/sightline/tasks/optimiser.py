"""What changes the weights in training: AdamW, or Muon for the matrices and AdamW for the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sightline.tasks.muon import Muon
from sightline.tasks.recipe import Recipe


class Optimiser:
    """The optimisers of a model, with one learning rate that rises and falls.

    Args:
        model: whose parameters are trained. Weight decay is for matrices, not for biases and norms; Muon for
            those matrices that multiply vectors, not for tables that vectors are looked up in.
        recipe: the settings.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.recipe = recipe
        tables = {id(each.weight) for each in model.modules() if isinstance(each, nn.Embedding)}
        parameters = list(model.parameters())
        multiply = [p for p in parameters if p.dim() == 2 and id(p) not in tables]
        muon = multiply if recipe.optimiser == "muon" else []
        rest = {id(p) for p in parameters} - {id(p) for p in muon}
        groups = [
            {
                "params": [p for p in parameters if id(p) in rest and (p.dim() > 1) is matrix],
                "weight_decay": recipe.decay if matrix else 0.0,
            }
            for matrix in (True, False)
        ]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.98))
        ]
        if muon:
            # Singular values are only brought near 1: the digits of bfloat16 suffice where it is fast.
            dtype = torch.bfloat16 if recipe.precision == "bfloat16" else None
            self.parts.append(Muon(muon, recipe.rate, decay=recipe.decay, dtype=dtype))

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for part in self.parts:
            part.zero_grad()

    def step(self, at: int, total: int) -> None:
        """Changes the weights by their gradients, as step ``at`` of ``total``."""
        rate = self.recipe.rate * factor(at, self.recipe.warmup, total, self.recipe.floor)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def state(self) -> dict[str, Tensor]:
        """Its moments by name."""
        return {
            f"{number}.{i}.{name}": tensor
            for number, part in enumerate(self.parts)
            for i, each in part.state_dict()["state"].items()
            for name, tensor in each.items()
        }

    def restore(self, saved: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`state`."""
        for number, part in enumerate(self.parts):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in saved.items():
                own, at, rest = name.split(".", 2)
                if int(own) == number:
                    state.setdefault(int(at), {})[rest] = tensor
            part.load_state_dict({**part.state_dict(), "state": state})


def factor(step: int, warmup: int, total: int, floor: float) -> float:
    """The learning rate's factor: from 0 to 1 over ``warmup`` steps, then down a cosine to ``floor``."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

"""Small models with weights that matter, traced with their residual streams."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import sightline


def lively(model: nn.Module) -> nn.Module:
    """All weights and biases drawn, none at 0 or 1: nothing is left out by chance."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3 + mean)
    return model.eval()


def traced(model: nn.Module, *given: Any, **options: Any) -> Any:
    """The trace of one run."""
    with torch.no_grad(), sightline.trace(model, residual=True) as trace:
        model(*given, **options)
    return trace


def tokens(batch: int = 2, length: int = 9) -> torch.Tensor:
    """Ids from 3 to 49."""
    return torch.randint(3, 50, (batch, length), generator=torch.Generator().manual_seed(1))

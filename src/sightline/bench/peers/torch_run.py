"""Running an attention function of PyTorch forward, or backward alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sightline.bench.case import Case, Inputs
from sightline.bench.peers.peer import PreparedCase

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(query, key, value, bias) to context."""


def torch_run(case: Case, given: Inputs, attend: Attend) -> PreparedCase:
    """Forward under ``no_grad``; backward as ``autograd.grad`` on a graph made before."""
    query, key, value, grad, bias = given
    if case.direction == "forward":

        def forward() -> Tensor:
            with torch.no_grad():
                return attend(query, key, value, bias)

        return PreparedCase(forward, lambda context: [context])
    leaves = [tensor.requires_grad_() for tensor in (query, key, value)]
    if case.bias == "learned" and bias is not None:
        leaves.append(bias.requires_grad_())
    context = attend(query, key, value, bias)
    return PreparedCase(lambda: torch.autograd.grad(context, leaves, grad, retain_graph=True), list)

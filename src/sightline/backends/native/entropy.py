"""The gradient of rows' entropy by the native backward pass, in which values take no part."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from sightline.backends.native import kernels
from sightline.backends.problem import Problem


def entropy_backward(
    problem: Problem, lse: Tensor, entropy: Tensor, grad_entropy: Tensor, wanted: Collection[str]
) -> dict[str, Tensor]:
    """The wanted gradients, as ``kernels.backward`` gives them."""
    total = torch.ones_like(entropy)
    if problem.sinks is not None:
        total = 1 - torch.exp(problem.sinks.to(lse.dtype)[:, None] - lse).to(entropy.dtype)
    # The share in delta is ours to say; see native/include/sightline.h.
    delta = grad_entropy * (entropy - total)
    nothing = problem.query[..., :0]
    bare = replace(problem, value=problem.key[..., :0])
    return kernels.backward(bare, nothing, lse, nothing, -delta, wanted, grad_entropy)

"""What a matrix takes along from inside of torch.func and forward mode: tensors, and no derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.common.dispatcher import has_samples, unwrapped


def left_behind(tensor: Tensor) -> Tensor:
    """The tensor outside of reverse mode, forward mode and torch.func, where ``detach`` keeps tangents."""
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    bare = unwrapped(tensor)
    with temporarily_clear_interpreter_stack(), torch.autograd.forward_ad._set_fwd_grad_enabled(False):
        return bare.detach()


def refuse_vmap(*given: Tensor) -> None:
    """Raises where ``torch.func.vmap`` hides an axis of the samples: a matrix could not say whose it is."""
    if any(map(has_samples, given)):
        raise NotImplementedError(
            "AttentionMatrix: torch.func.vmap hides the samples' axis, which a matrix keeps. Make the matrix "
            "outside of vmap, of query and key with the samples along the batch axis B."
        )

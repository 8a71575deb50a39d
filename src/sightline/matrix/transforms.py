"""What a matrix takes along from inside of torch.func and forward mode: tensors, and no derivatives."""

from __future__ import annotations

import torch
from torch import Tensor

from sightline.common.dispatcher import is_transformed, unwrapped


def left_behind(tensor: Tensor) -> Tensor:
    """The tensor outside of reverse mode, forward mode and torch.func, where ``detach`` keeps tangents."""
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

    bare = unwrapped(tensor)
    with temporarily_clear_interpreter_stack(), torch.autograd.forward_ad._set_fwd_grad_enabled(False):
        return bare.detach()


def refuse_vmap(*given: Tensor) -> None:
    """Raises where ``torch.func.vmap`` hides an axis of the samples: a matrix could not say whose it is."""
    if is_transformed() and any(map(_is_batched, given)):
        raise NotImplementedError(
            "AttentionMatrix: torch.func.vmap hides the samples' axis, which a matrix keeps. Make the matrix "
            "outside of vmap, of query and key with the samples along the batch axis B."
        )


def _is_batched(tensor: Tensor) -> bool:
    from torch._C import _functorch

    while _functorch.is_functorch_wrapped_tensor(tensor):
        if _functorch.is_batchedtensor(tensor):
            return True
        tensor = _functorch.get_unwrapped(tensor)
    return False

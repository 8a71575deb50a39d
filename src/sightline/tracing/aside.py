"""Computing on a model's tensors while the model runs."""

from __future__ import annotations

import threading
from typing import Any

import torch
from torch._C import _dispatch_tls_local_exclude_set

#: What a thread leaves out by itself, autocast for one.
_EXCLUDED = _dispatch_tls_local_exclude_set()

_kept = threading.local()


class recording:  # noqa: N801
    """Computing on a model's tensors with autograd, as above it: as the model's own operations are recorded.

    What is computed :class:`observing` within is recorded, too.
    """

    def __init__(self) -> None:
        ordinary = torch._C.DispatchKeySet(torch._C.DispatchKey.BackendSelect)
        ordinary = ordinary.add(torch._C.DispatchKey.ADInplaceOrView)
        self._grad = torch.is_grad_enabled()
        self._keys = torch._C._ForceDispatchKeyGuard(ordinary, _EXCLUDED)

    def __enter__(self) -> None:
        _kept.gradients = getattr(_kept, "gradients", 0) + 1
        torch._C._set_grad_enabled(True)
        self._keys.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._keys.__exit__(*error)
        torch._C._set_grad_enabled(self._grad)
        _kept.gradients -= 1


class observing:  # noqa: N801  (a context manager, in the manner of torch.no_grad)
    """Computing on a model's tensors, aside: no autograd, and plain tensors even in inference mode.

    Views count writes together with what they are views of, which below autograd is otherwise left out.
    """

    def __init__(self) -> None:
        self._grad = torch.is_grad_enabled()
        self._views = torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.ADInplaceOrView, False)
        self._inference = torch.inference_mode(False) if torch.is_inference_mode_enabled() else None

    def __enter__(self) -> None:
        if self._inference is not None:
            self._inference.__enter__()
        if not getattr(_kept, "gradients", 0):
            torch._C._set_grad_enabled(False)
        self._views.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._views.__exit__(*error)
        torch._C._set_grad_enabled(self._grad)
        if self._inference is not None:
            self._inference.__exit__(*error)

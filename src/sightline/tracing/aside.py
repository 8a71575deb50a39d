"""Computing on a model's tensors while the model runs."""

from __future__ import annotations

from typing import Any

import torch


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
        torch._C._set_grad_enabled(False)
        self._views.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._views.__exit__(*error)
        torch._C._set_grad_enabled(self._grad)
        if self._inference is not None:
            self._inference.__exit__(*error)

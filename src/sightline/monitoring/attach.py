"""How a monitor notices its model's forward passes: by hooks, or by a function around a compiled call.

Hooks of a compiled model are compiled with it, and break its graph. If the model is already compiled when the
monitor is made, its call is therefore wrapped from outside.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn


class Listener(Protocol):
    """Is called around each forward pass."""

    def before(self) -> None:
        """A forward pass begins."""

    def after(self) -> None:
        """The pass has ended, or failed."""


def attach(model: nn.Module, listener: Listener) -> Callable[[], None]:
    """Calls the listener around every forward pass of the model, until the function returned is called."""
    if type(model).__name__ == "OptimizedModule":  # of torch.compile(model)
        return _wrap(model, "forward", listener)
    if getattr(model, "_compiled_call_impl", None) is not None:  # of model.compile()
        return _wrap(model, "_compiled_call_impl", listener)
    hook = _Hook(listener)
    handles = (
        model.register_forward_pre_hook(hook.before),
        # Before hooks that others registered: the trace's block ends inside theirs.
        model.register_forward_hook(hook.after, prepend=True, always_call=True),
    )

    def detach() -> None:
        for handle in handles:
            handle.remove()

    return detach


def _wrap(model: nn.Module, name: str, listener: Listener) -> Callable[[], None]:
    inner = getattr(model, name)
    active: Listener | None = listener

    @functools.wraps(inner)
    def watched(*args: Any, **kwargs: Any) -> Any:
        if active is None:
            return inner(*args, **kwargs)
        active.before()
        try:
            return inner(*args, **kwargs)
        finally:
            active.after()

    def detach() -> None:
        nonlocal active
        active = None
        if getattr(model, name) is watched:  # otherwise somebody else has wrapped it since
            setattr(model, name, inner)

    setattr(model, name, watched)
    return detach


class _Hook:
    """What a model holds of its monitor; copies and pickles of the model are not watched."""

    def __init__(self, listener: Listener | None = None) -> None:
        self._listener = listener

    def before(self, module: nn.Module, args: Any) -> None:
        # If the model was compiled later, none of this may become part of its graph.
        if not torch.compiler.is_compiling() and self._listener is not None:
            self._listener.before()

    def after(self, module: nn.Module, args: Any, output: Any) -> None:
        if not torch.compiler.is_compiling() and self._listener is not None:
            self._listener.after()

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()

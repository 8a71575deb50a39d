"""Following a model as it runs: which module it is in, and what the recorder has to look at there."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from sightline.common import several
from sightline.common.check import shown
from sightline.common.several import SharedCall
from sightline.tracing import modules
from sightline.tracing.caught import CaughtCall
from sightline.tracing.origin import kind_of
from sightline.tracing.packed import unpack
from sightline.tracing.recorder import Recorder
from sightline.tracing.storage import address, is_plain
from sightline.tracing.windows import heads_apart

_ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)


class Watching:
    """A block in which a model is watched: it has a recorder while it is open, and says whose a call is.

    Args:
        model: a module, a function, or ``None`` for whatever runs.
    """

    def __init__(self, model: Any) -> None:
        self._stack = modules.ModuleStack(model)
        self._known_attention = any(map(_is_attention, self._stack.classes))
        self._frames: list[tuple[nn.Module, int]] = []
        self._simple: tuple[nn.Module, Tensor] | None = None
        self._recorder: Recorder | None = None
        self._seen = 0

    def _begin(self, recorder: Recorder) -> None:
        recorder.__enter__()
        self._recorder = recorder
        modules.listen(self)
        several.watch(self)

    def _end(self) -> None:
        recorder, self._recorder = self._recorder, None
        assert recorder is not None
        several.watch_no_more(self)
        modules.stop_listening(self)
        recorder.__exit__()
        self._simple = None
        self._stack.running.clear()
        self._frames.clear()

    def _weights(self) -> set[int]:
        """The storages of the model's parameters and buffers."""
        tensors = [
            tensor
            for module in self._stack.modules.values()
            for held in (module._parameters, module._buffers)
            for tensor in held.values()
        ]
        return {address(tensor) for tensor in tensors if tensor is not None and is_plain(tensor)}

    # --- modules ----------------------------------------------------------------------------------

    def entered(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module begins to run."""
        recorder = self._recorder
        if recorder is None:
            return
        if self._simple is not None:  # it was interrupted
            self._wake(None)
        if modules.is_simple(module) and self._rests(module, args, recorder):
            return
        running = self._stack.enter(module, args)
        if running.name is not None and _is_attention(type(module)):
            self._frames.append((module, self._seen))
        recorder.tracking = bool(self._frames) or not self._known_attention
        if type(module).__name__ == "OptimizedModule":
            self._compiled_began()

    def left(self, module: nn.Module, output: Any) -> None:
        """A module has run; ``output`` is ``None`` where it failed."""
        if self._simple is not None and self._simple[0] is module:
            self._wake(output)
            return
        if self._frames and self._frames[-1][0] is module:
            _, before = self._frames.pop()
            if self._seen == before and not torch._C._current_graph_task_id() + 1:
                self._on_unseen(module)
        self._stack.leave(module)
        if self._recorder is not None and not self._frames:
            self._recorder.tracking = not self._known_attention or not self._stack.running
            self._recorder.let_go()

    def _rests(self, module: nn.Module, args: tuple[Any, ...], recorder: Recorder) -> bool:
        """Whether a module in which no attention can run is looked at as a whole: the common ones, mostly."""
        if len(args) != 1 or not is_plain(args[0]) or id(module) not in self._stack.names:
            return False
        if recorder.follows(args[0]) or not recorder.rest():
            return False
        self._simple = (module, args[0])
        return True

    def _wake(self, output: Any) -> None:
        assert self._simple is not None
        assert self._recorder is not None
        (module, source), self._simple = self._simple, None
        self._recorder.wake(source, output, bool(modules.is_projection(module)))

    def _compiled_began(self) -> None:
        """A compiled module begins to run, uncompiled."""

    def _on_unseen(self, module: nn.Module) -> None:
        """A module that is called attention ran, and nothing was recognised in it."""

    def shared(self, call: SharedCall) -> None:
        """Attention ran on several processes."""
        raise NotImplementedError(
            f"context_parallel: {type(self).__name__} does not follow attention on several processes. Leave "
            "its block; sightline.trace does."
        )

    # --- calls ------------------------------------------------------------------------------------

    def _identified(self, caught: CaughtCall) -> tuple[str, str]:
        """The name and the kind of a call, which then has its batch and heads where they belong."""
        assert self._recorder is not None
        self._seen += 1
        name = ".".join(part for part in (self._stack.name, caught.inside) if part)
        kind = kind_of(caught, name, self._recorder.origins)
        unpack(caught, self._stack.module)
        if caught.lead:
            heads_apart(caught, self._stack.heads())
        return name, kind


_attention_classes: dict[type, bool] = {}


def _is_attention(kind: type) -> bool:
    """Whether a module of this class is called attention."""
    known = _attention_classes.get(kind)
    if known is None:
        known = _attention_classes[kind] = _ATTENTION.search(kind.__name__) is not None
    return known


def check_model(model: Any) -> None:
    """Raises for what cannot be watched."""
    if isinstance(model, type) or not (model is None or callable(model)):
        got = f"the class {model.__name__}" if isinstance(model, type) else shown(model)
        raise TypeError(
            f"model: must be a module, a function, or None for every call of the block, got {got}."
        )

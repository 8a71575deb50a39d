"""The monitor: counts training steps, and looks at the attention in every k-th."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sightline.common.check import integer, shown
from sightline.monitoring.alarms import Alarm, Alarms
from sightline.monitoring.attach import attach
from sightline.monitoring.layer_attention import LayerAttention
from sightline.monitoring.limits import Limits
from sightline.monitoring.measuring import measure_call
from sightline.monitoring.writers import open_writers
from sightline.tracing.caught import DROPOUT
from sightline.tracing.recording import Trace

if TYPE_CHECKING:
    from sightline.tracing.call import AttentionCall
    from sightline.tracing.choice import Layers


class Monitor:
    """Watches a model from when it is made until ``close()``, or the end of its ``with`` block.

    A step is what ends with a call of :meth:`step`; where that is never called, a forward pass in training
    mode. Of every k-th step, the first among them, one forward pass is looked at, through
    :func:`sightline.trace`; a compiled model runs uncompiled in these passes. Between them the monitor only
    counts.

    Args:
        model, every, to, layers, batch_entries, limits, on_alarm, start: as for :func:`sightline.monitor`.

    Attributes:
        last: what was measured in the last logged step, one entry a layer.
        logged: the number of that step; ``None`` before the first.
    """

    def __init__(
        self,
        model: nn.Module,
        every: int,
        to: Any,
        layers: Layers | None,
        batch_entries: int | None,
        limits: Limits,
        on_alarm: Callable[[Alarm], object] | None,
        start: int,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model: expected a torch.nn.Module, got {type(model).__name__}.")
        every, start = integer("every", every, 1), integer("start", start, 0)
        if batch_entries is not None:
            batch_entries = integer("batch_entries", batch_entries, 1)
        if on_alarm is not None and not callable(on_alarm):
            raise TypeError(f"on_alarm: must be a function of an Alarm, got {shown(on_alarm)}.")
        if not isinstance(limits, Limits):
            raise TypeError(f"limits: expected sightline.monitoring.Limits, got {type(limits).__name__}.")
        Trace(model, layers)  # raises now for names that the model does not have
        self.last: list[LayerAttention] = []
        self.logged: int | None = None
        self._model, self._every, self._layers = model, every, layers
        self._batch_entries, self._limits = batch_entries, limits
        self._alarms = Alarms(limits, on_alarm)
        self._start = self._number = start
        self._counts_steps = self._heard = False
        self._pass: _Pass | None = None
        self._reported: set[str] = set()
        self._writers = open_writers(to)
        self._detach = attach(model, self)

    # --- steps ------------------------------------------------------------------------------------

    def step(self) -> None:
        """One training step is done, however many forward passes it took."""
        if not self._counts_steps:
            self._counts_steps, self._number = True, self._start
        if not self._heard:
            self._report(
                "passes",
                f"no forward pass of {type(self._model).__name__} was seen in training mode before step "
                f"{self._number} was done. Give the module that the training loop calls; if it is compiled, "
                "what torch.compile returned.",
            )
        self._number += 1

    def close(self) -> None:
        """Removes the hooks and closes the CSV file; what was passed in open stays open."""
        self._detach()
        self._abandon()
        while self._writers:
            writer = self._writers.pop()
            try:
                writer.close()
            except OSError as error:
                self._report("close", f"{type(writer).__name__} could not be closed: {_named(error)}.")

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        seen = "nothing logged yet" if self.logged is None else f"{len(self.last)} layers at {self.logged}"
        return f"Monitor({type(self._model).__name__}, every={self._every}, step={self._number}, {seen})"

    # --- forward passes ---------------------------------------------------------------------------

    def before(self) -> None:
        """A forward pass of the model begins."""
        self._abandon()  # a pass that was interrupted, which hooks do not notice
        if not self._is_training():
            return
        self._heard = True
        if self._number % self._every:
            return
        if self.logged is not None and self._number <= self.logged:
            return  # a further pass of a step that was already looked at
        try:
            self._pass = _Pass(self._model, self._layers, self._measure)
        except Exception as error:
            self._report("trace", f"attention could not be watched: {_named(error)}.")

    def after(self) -> None:
        """A forward pass has ended, or failed."""
        if self._pass is None and not self._is_training():
            return
        ended, self._pass = self._pass, None
        failed = ended is not None and ended.end()
        step = self._number
        if not (self._counts_steps or failed):
            self._number += 1
        if ended is not None and not failed:
            self._log(step, ended)

    def _is_training(self) -> bool:
        """Whether the model learns from this pass: no evaluation, no repetition within a backward pass."""
        learns = self._model.training and torch.is_grad_enabled()
        return learns and torch._C._current_graph_task_id() == -1

    def _abandon(self) -> None:
        open_pass, self._pass = self._pass, None
        if open_pass is not None:
            open_pass.end()

    # --- what becomes of them ---------------------------------------------------------------------

    def _measure(self, call: AttentionCall, name: str) -> LayerAttention | None:
        return measure_call(call, name, self._limits, self._batch_entries)

    def _log(self, step: int, ended: _Pass) -> None:
        self.logged, self.last = step, ended.layers
        if ended.layers:
            self._write(step, ended.layers)
        for layer, why in ended.troubles.items():
            self._report(f"layer {layer}", f"{layer or 'the model'} is not measured: {why}.")
        if not ended.layers and not ended.troubles:
            self._report(
                "nothing",
                f"no attention was seen in {type(self._model).__name__} at step {step}. It did not run, "
                "or it runs in code of its own that PyTorch does not see (see docs/trace.md).",
            )
        self._alarms.check(step, ended.layers)

    def _write(self, step: int, layers: list[LayerAttention]) -> None:
        for place, writer in enumerate(self._writers):
            try:
                writer.write(step, layers)
            except Exception as error:
                name = type(writer).__name__
                self._report(
                    f"writer {place}", f"step {step} could not be written ({name}): {_named(error)}."
                )

    def _report(self, about: str, text: str) -> None:
        """Warns, once about each thing."""
        if about not in self._reported:
            self._reported.add(about)
            warnings.warn(f"sightline.monitor: {text} The training goes on.", RuntimeWarning, stacklevel=3)


class _Pass:
    """A forward pass that is looked at: open until it ends.

    Attributes:
        layers: what was measured, in the order in which the layers ran.
        troubles: why a layer was not measured, by its name.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Layers | None,
        measure: Callable[[AttentionCall, str], LayerAttention | None],
    ) -> None:
        self.layers: list[LayerAttention] = []
        self.troubles: dict[str, str] = {}
        self._measure = measure
        self._names: dict[tuple[str, str], int] = {}
        self._error = sys.exc_info()[1]
        self._trace = Trace(model, layers, on_call=self._take)
        self._trace.__enter__()
        self._trace.entered(model, ())  # its own hooks come too late for this pass

    def _take(self, call: AttentionCall) -> None:
        place = call.name, call.kind
        number = self._names[place] = self._names.get(place, 0) + 1
        name = call.name if number == 1 else f"{call.name}#{number}"
        if call.reason not in (None, DROPOUT):
            self.troubles[name] = str(call.reason)
            return
        try:
            layer = self._measure(call, name)
        except Exception as error:
            self.troubles[name] = _named(error)
            return
        if layer is not None:
            self.layers.append(layer)

    def end(self) -> bool:
        """Ends it, and says whether the pass failed, so that only a part of it was seen."""
        self._trace.close()
        return sys.exc_info()[1] is not self._error


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

"""The recorder of an intervention: it hands over calls before anybody has seen what they made.

It stands below all traces of its thread, whenever they were opened, so that they see what a call became.
Where a fused operation would be run in vain, its result is prepared and filled in instead.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch._C import _len_torch_dispatch_stack
from torch.utils._python_dispatch import _pop_mode, _push_mode

from sightline.backends.problem import empty_context, lse_dtype
from sightline.common import dispatcher
from sightline.interventions import gradients
from sightline.tracing.aside import observing, recording
from sightline.tracing.caught import CaughtCall
from sightline.tracing.eager.followed import ModuleFacts
from sightline.tracing.operators import Operator, operator_of
from sightline.tracing.recorder import Recorder, hears_of_flex_attention
from sightline.tracing.uncompiled import compile_again, run_uncompiled

aten = torch.ops.aten

TRANSFORMED = (
    "intervene: transforms of torch.func and forward-mode differentiation cannot pass a change. Use "
    "torch.autograd, or leave the transform out."
)


@hears_of_flex_attention
class Changer(Recorder):
    """Sees operations as a recorder does, and lets ``change`` put something else in place of what they made.

    Args:
        weights, module, failed: as for a recorder.
        change: takes a call, and says whether it filled in its result.
    """

    def __init__(
        self,
        weights: set[int],
        module: ModuleFacts,
        change: Callable[[CaughtCall], bool],
        failed: Callable[[str, Exception], None],
    ) -> None:
        super().__init__(weights, module, self._changed, failed)
        self._change = change
        self.aliases = gradients.Aliases()
        self._passed = False
        self._recorded = torch.is_grad_enabled()
        #: [B,H,N] of the call that was changed last.
        self.lse: Tensor | None = None

    def __enter__(self) -> Changer:
        run_uncompiled()
        _restack(lambda below: [*below, self])
        return self

    def __exit__(self, *error: object) -> None:
        gradients.lay()
        if not self._resting:
            _restack(lambda below: [one for one in below if one is not self])
        gradients.give_up()
        compile_again()
        self.forget()

    def let_go(self) -> None:
        """Forgets the scores and weights that are gone."""
        super().let_go()
        self.aliases.clear()

    def forget(self) -> None:
        """Forgets everything."""
        super().forget()
        self.aliases.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if gradients.waiting():
            gradients.lay()
        if dispatcher.is_transformed():
            return self._transformed(func, args, kwargs or {})
        if func in _FUNCTIONS:
            self._recorded = self._recorded and any(map(_wants_gradients, args))
        else:
            self._recorded = torch.is_grad_enabled()
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _transformed(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs an operation under a transform of torch.func or in forward mode; masks are made so, too."""
        if operator_of(func).fused is not None or func in _SOFTMAXES:
            raise NotImplementedError(TRANSFORMED)
        return func(*args, **kwargs)

    def enters(self) -> None:
        """A module begins to run."""
        self._recorded = torch.is_grad_enabled()

    def aside(self) -> AbstractContextManager[None]:
        """Computing on the model's tensors, recorded where the model is."""
        return recording() if self._recorded else observing()

    def _is_backward(self) -> bool:
        # What is computed again in a backward pass, by checkpoints, is changed as it was before.
        return super()._is_backward() and not torch.is_grad_enabled()

    def _see(self, operator: Operator, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        if self._passed and operator.fused is not None:
            self._passed = False
        elif self._recorded:
            with recording():
                self._look(operator, func, *self._aliased(args, kwargs), out)
        else:
            super()._see(operator, func, args, kwargs, out)

    def _aliased(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        given = self.aliases.instead(list(args))
        return given, {name: self.aliases.instead(value) for name, value in kwargs.items()}

    def _changed(self, caught: CaughtCall) -> None:
        self._change(caught)

    def _instead(self, operator: Operator, func: Any, args: Any, kwargs: Any) -> Any:
        room = _ROOM.get(func)
        if room is None or self._is_backward() or _len_torch_dispatch_stack():
            return None
        out = room(args, kwargs)
        if out is None:
            return None
        with self.aside():
            given, named = self._aliased(args, kwargs) if self._recorded else (args, kwargs)
            assert operator.fused is not None
            caught = operator.fused(given, named, out)
        if caught is None:
            return None
        caught.result = out[0] if isinstance(out, tuple) else out
        caught.computed = False
        if self._change(caught):
            assert self.lse is not None
            out[1].copy_(self.lse.reshape(out[1].shape))  # heads may have stood as queries
            return out
        self._passed = True
        return None


def _wants_gradients(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _restack(order: Callable[[list[Any]], list[Any]]) -> None:
    """Puts the modes of this thread in order: the changers, as ``order`` has them, and what stands above."""
    count, modes = _len_torch_dispatch_stack(), []
    for _ in range(count):
        modes.append(_pop_mode(None))
    modes.reverse()
    changers = [one for one in modes if isinstance(one, Changer)]
    for one in [*order(changers), *(one for one in modes if not isinstance(one, Changer))]:
        _push_mode(one)


def _of_flash(args: Any, kwargs: Any) -> tuple[Tensor, Tensor] | None:
    query, _, value = args[:3]
    if query.dim() != 4 or query.is_nested:
        return None
    b, h, n, _ = query.shape
    context = query.new_empty((b, n, h, value.shape[3])).transpose(1, 2)
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    return context, query.new_empty((b, h, n), dtype=dtype)


def _of_sightline(args: Any, kwargs: Any) -> tuple[Tensor, Tensor]:
    query, _, value = args[:3]
    return empty_context(query, value.shape[3]), query.new_empty(query.shape[:3], dtype=lse_dtype(query))


_SOFTMAXES = frozenset((aten._softmax.default, aten._safe_softmax.default, aten.softmax.int))

#: Operators that autograd records as a function of Python's, in which gradients seem to be off: whether they
#: are is known from what ran before.
_FUNCTIONS = frozenset((torch.ops.sightline.attention.default, torch.ops.higher_order.flex_attention))

#: Room for the results of operations that need not run where they are changed.
_ROOM: dict[Any, Callable[[Any, Any], Any]] = {
    aten._scaled_dot_product_flash_attention_for_cpu.default: _of_flash,
    torch.ops.sightline.attention.default: _of_sightline,
}

"""The trace: a block in which a model's attention calls are caught."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sightline.backends import Problem
from sightline.call import changed
from sightline.common.check import flag, shown
from sightline.common.several import SharedCall
from sightline.common.slots import residual_recorder
from sightline.tracing import modules
from sightline.tracing.aside import observing
from sightline.tracing.call import AttentionCall
from sightline.tracing.calls import Calls
from sightline.tracing.caught import DROPOUT, CaughtCall
from sightline.tracing.choice import LayerChoice, Layers
from sightline.tracing.keep import OFFLOADS, Keeper
from sightline.tracing.lowering import problem_of
from sightline.tracing.recorder import Recorder
from sightline.tracing.stitch import Stitched
from sightline.tracing.verify import doubt, shared_doubt
from sightline.tracing.watching import Watching, check_model

_UNCOMPILED = (
    "A compiled model ran uncompiled in this block: compiled code shows no operations. Its output "
    "may differ from the compiled one's in the last bits."
)
_FLEX = (
    "FlexAttention ran uncompiled in this block. Where the program compiles it, as Transformers does, the "
    "output may differ from the compiled one's in the last bits."
)


class Trace(Calls, Watching):
    """See :func:`sightline.trace`."""

    def __init__(
        self,
        model: nn.Module | Callable[..., Any] | None,
        layers: Layers | None = None,
        offload: str | None = None,
        *,
        dtype: torch.dtype | None = None,
        gradients: bool = False,
        stitch: bool = True,
        on_call: Callable[[AttentionCall], object] | None = None,
        residual: bool = False,
    ) -> None:
        check_model(model)
        Calls.__init__(self, model=_name_of(model))
        Watching.__init__(self, model)
        if on_call is not None and not callable(on_call):
            raise TypeError(f"on_call: must be a function that takes a call, or None, got {shown(on_call)}.")
        gradients, stitch = flag("gradients", gradients), flag("stitch", stitch)
        if offload not in OFFLOADS:
            raise ValueError(f'offload: must be None, "cpu" or "disk", got {offload!r}.')
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise TypeError(f"dtype: must be a floating torch.dtype, got {dtype!r}.")
        if gradients and on_call is not None:
            raise ValueError("gradients: come after the calls are gone with on_call. Give one of the two.")
        if flag("residual", residual) and on_call is not None:
            raise ValueError(
                "residual: is for calls that are kept, and on_call keeps none. Give one of the two."
            )
        if residual:
            self._residual = residual_recorder(self._stack.modules, self._stack.names)
        self._choice = LayerChoice(layers, self._stack.names.values())
        self._keeper = Keeper(dtype, offload)
        self._offload = offload
        self._gradients, self._on_call = gradients, on_call
        self._stitch = stitch and on_call is None and not gradients
        self._stitched: dict[tuple[str, str], tuple[AttentionCall, Stitched]] = {}
        self._in_step = False
        self._pending: list[tuple[AttentionCall, Tensor, Callable[[Tensor], Tensor]]] = []
        self._used = False

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles hold the calls, not the block, nor the model that ran in it."""
        return {name: vars(self)[name] for name in vars(Calls())} | {
            "_used": True, "_recorder": None, "_residual": None,
        }  # fmt: skip

    # --- the block --------------------------------------------------------------------------------

    def __enter__(self) -> Trace:
        if self._used:
            raise RuntimeError("trace: was used before; make a new one for each block.")
        self._used = True
        self._begin(Recorder(self._weights(), self._stack, self._on_caught, self._on_failure))
        if self._residual is not None:
            modules.listen(self._residual)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, where: object) -> None:
        self.close()
        if kind is None:
            self._say_what_is_missing()

    def close(self) -> None:
        """Ends the block, without a word on what was not seen in it."""
        if self._residual is not None:
            modules.stop_listening(self._residual)
        self._end()
        self._hook_gradients()
        for call, steps in self._stitched.values():
            if len(steps) > 1:
                call.set_problem(*self._offloaded(*steps.whole()))
        self._stitched.clear()
        self._keeper.close(self)

    def _say_what_is_missing(self) -> None:
        missing = self._choice.missing()
        if missing is not None and self._seen:
            raise ValueError(missing)
        if not self._seen:
            self.notices.append("No attention was seen to run in this block.")
            warnings.warn(
                f"sightline.trace: no attention was seen in {self.model or 'this block'}. It did not run, "
                "or it runs in code of its own that PyTorch does not see (see docs/trace.md).",
                stacklevel=3,
            )

    # --- modules ----------------------------------------------------------------------------------

    def left(self, module: nn.Module, output: Any) -> None:
        """A module has run; ``output`` is ``None`` where it failed."""
        if self._pending:
            self._hook_gradients()
        super().left(module, output)

    def _compiled_began(self) -> None:
        self._say(_UNCOMPILED)

    def _say(self, notice: str) -> None:
        """Adds a notice, once."""
        if notice not in self.notices:
            self.notices.append(notice)

    # --- calls ------------------------------------------------------------------------------------

    def _on_unseen(self, module: nn.Module) -> None:
        """A module that is called attention ran, and nothing was recognised in it."""
        self._seen += 1
        name = self._stack.names.get(id(module), "")
        if not self._choice.takes(name, "self"):
            return
        reason = f"no attention was recognised in what this {type(module).__name__} computed"
        self._add(AttentionCall(len(self._calls), name, "self", "unknown", None, reason))

    def _on_failure(self, operation: str, error: Exception) -> None:
        reason = f"{operation} could not be read: {type(error).__name__}: {error}"
        self.notices.append(reason)
        if "attention" not in operation and "softmax" not in operation:
            return
        self._seen += 1
        self._add(AttentionCall(len(self._calls), self._stack.name, "self", operation, None, reason))

    def _on_caught(self, caught: CaughtCall) -> None:
        if self._stack.foreign:
            return
        if caught.how == "flex_attention":
            self._say(_FLEX)
        with observing():
            caught = changed.of(caught.result) or caught
            name, kind = self._identified(caught)
            if not self._choice.takes(name, kind):
                return
            call = self._call(caught, name, kind)
        if call is None:
            return
        if self._gradients and caught.output is not None:
            self._pending.append((call, *caught.output))
        self._add(call)

    def shared(self, call: SharedCall) -> None:
        """Attention ran on several processes; what they hold is kept in each."""
        if self._recorder is None or self._stack.foreign:
            return
        caught = CaughtCall("sightline.attention", call.query, call.key, call.value, call.context)
        matrix = call.matrix
        _, queries, keys = matrix.layouts
        caught.cross = None if queries == keys else True
        with observing():
            name, kind = self._identified(caught)
            if not self._choice.takes(name, kind):
                return
            index = len(self._calls) if self._on_call is None else self._seen - 1
            reason = DROPOUT if call.dropout else shared_doubt(matrix, call.context)
            kept = AttentionCall(index, name, kind, caught.how, None, reason)
            kept.set_matrix(matrix.on(self._keeper.keep(matrix.held())))
        if self._gradients:
            self._pending.append((kept, call.context, lambda tensor: tensor))
        self._add(kept)

    def _add(self, call: AttentionCall) -> None:
        if self._on_call is None:
            self._calls.append(call)
        else:
            self._on_call(call)

    def _call(self, caught: CaughtCall, name: str, kind: str) -> AttentionCall | None:
        """A new call; ``None`` for a further step of one that is there."""
        assert self._recorder is not None
        index = len(self._calls) if self._on_call is None else self._seen - 1
        try:
            problem = problem_of(caught, self._recorder.masks)
            reason = caught.doubt or doubt(
                problem, caught.context, caught.compare, caught.eps, caught.thorough
            )
            if self._stitch and self._continues(problem, caught.lse, name, kind, reason):
                return None
            kept = self._keeper.keep(problem)
            call = AttentionCall(index, name, kind, caught.how, None, reason)
            call.windows, call.rows = self._stack.cut(problem.query)
            call.set_problem(kept, caught.lse)
        except Exception as error:
            what = str(error) if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"
            return AttentionCall(index, name, kind, caught.how, None, what)
        if self._stitch:
            self._stitched[name, kind] = (call, Stitched(kept, caught.lse))
        return call

    def _continues(
        self, problem: Problem, lse: Tensor | None, name: str, kind: str, reason: str | None
    ) -> bool:
        """Whether this was a further step of a call that is there; it is then part of it."""
        known = self._stitched.get((name, kind))
        start = None if known is None else known[1].continued(problem, kind == "cross", self._in_step)
        if kind == "self":
            self._in_step = start is not None
        if known is None or start is None:
            return False
        call, steps = known
        steps.append(self._keeper.keep(problem, to_disk=False), start, lse)
        call.set_steps(steps)
        if reason is not None and call.reason is None:
            call.reason = f"step {len(steps) - 1}: {reason}"
        return True

    def _offloaded(self, problem: Problem, lse: Tensor | None) -> tuple[Problem, Tensor | None]:
        return (self._keeper.keep(problem), lse) if self._offload == "disk" else (problem, lse)

    # --- gradients --------------------------------------------------------------------------------

    def _hook_gradients(self) -> None:
        """Hooks the context tensors, which autograd has taken note of by now."""
        for call, output, view in self._pending:
            if output.requires_grad:
                output.register_hook(_Receiver(call, view))
        self._pending.clear()


class _Receiver:
    """Puts the gradient of a context into its call."""

    def __init__(self, call: AttentionCall, view: Callable[[Tensor], Tensor]) -> None:
        self._call, self._view = call, view

    def __call__(self, gradient: Tensor) -> None:
        share = self._view(gradient.detach())
        before = self._call.gradient
        self._call.gradient = share.clone() if before is None else before + share


def _name_of(model: Any) -> str:
    model = getattr(model, "_orig_mod", model)
    config = getattr(model, "config", None)
    given = getattr(config, "name_or_path", "") or getattr(config, "_name_or_path", "")
    return str(given) or ("" if model is None else type(model).__name__)

"""The one mechanism: a dispatch mode that sees every ATen operation of its thread while a trace is open.

Why this one, of what PyTorch offers: below autograd, all roads meet. Whatever a model was written with
(Hugging Face's attention functions, ``F.scaled_dot_product_attention`` by any name or saved reference, the
fast paths of ``nn.MultiheadAttention`` and ``nn.TransformerEncoder``, ``@``, ``einsum``, FlexAttention), what
runs is one of a few fused operators or a product, a softmax and a product, with real tensors. A mode is local
to its thread and ends with its block. Function modes and patches see neither the call inside
``nn.MultiheadAttention`` nor a fast path (which their presence switches off), and replacing a model's
attention function would change its numbers. Here each operation runs as it would have run, and is only
looked at. The price is some 3 µs for an operation.

Two things follow. Compiled functions run uncompiled while a trace is open, since compiled code shows no
operations. And operators that libraries bring along themselves (flash-attn, xformers) are seen but not known.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import _get_dispatch_stack_at, _len_torch_dispatch_stack
from torch.utils._python_dispatch import TorchDispatchMode, _pop_mode, _push_mode

from sightline.tracing.aside import observing
from sightline.tracing.caught import CaughtCall
from sightline.tracing.eager.followed import FollowedScores, ModuleFacts
from sightline.tracing.eager.writes import rewritten, written
from sightline.tracing.masks import MaskReader
from sightline.tracing.nested import RaggedScores, is_ragged
from sightline.tracing.operators import Operator, operator_of
from sightline.tracing.origin import Origins
from sightline.tracing.storage import address, is_plain
from sightline.tracing.uncompiled import compile_again, run_uncompiled

aten = torch.ops.aten

_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


class _Looking(threading.local):
    """Of each thread its own: how many recorders look at an operation."""

    def __init__(self) -> None:
        self.deep = 0


_looking = _Looking()


def hears_of_flex_attention(kind: type[Recorder]) -> type[Recorder]:
    """Makes a kind of mode one that sees FlexAttention, for which PyTorch 2.6 wants a rule of each kind."""
    if not hasattr(TorchDispatchMode, "supports_higher_order_operators"):
        flex = torch.ops.higher_order.flex_attention
        flex.py_impl(kind)(lambda mode, *args, **kwargs: mode.__torch_dispatch__(flex, (), args, kwargs))
    return kind


@hears_of_flex_attention
class Recorder(TorchDispatchMode):
    """Sees operations, and calls ``emit`` with every attention call that it recognises.

    Args:
        weights: addresses of the storages of the model's parameters and buffers.
        module: what is known about the running module.
        emit: takes a CaughtCall.
        failed: takes an error of the recorder itself, which must not become the model's.
    """

    supports_higher_order_operators = True

    def __init__(
        self,
        weights: set[int],
        module: ModuleFacts,
        emit: Callable[[CaughtCall], None],
        failed: Callable[[str, Exception], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._weights = weights
        self._emit, self._failed = emit, failed
        self._caught: list[CaughtCall] = []
        #: Whether it matters where tensors come from: inside of attention modules, and without modules.
        self.tracking = True
        self.origins = Origins()
        self.masks = MaskReader()
        self._followed = FollowedScores(self._is_weight, module, self._caught.append)
        self._ragged_scores = RaggedScores()
        self._resting = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # compiled functions run uncompiled anyway: saves a wrapper around every operation

    def __enter__(self) -> Recorder:
        # Not the inherited one: it keeps flags for the whole process, which two threads would mix up.
        run_uncompiled()
        _push_mode(self)
        return self

    def __exit__(self, *error: object) -> None:
        if not self._resting:
            _pop_mode(None)
        compile_again()
        self.forget()

    def forget(self) -> None:
        """Forgets everything that was seen."""
        self._followed.clear()
        self._ragged_scores.clear()
        self.masks.clear()
        self.origins.clear()

    def _is_weight(self, tensor: Tensor) -> bool:
        return address(tensor) in self._weights

    # --- modules that need no watching ------------------------------------------------------------

    def rest(self) -> bool:
        """Stops seeing operations until :meth:`wake`; only where no other mode is about.

        Returns:
            whether it does.
        """
        if self._resting or _len_torch_dispatch_stack() != 1 or _get_dispatch_stack_at(0) is not self:
            return False
        _pop_mode(None)
        self._resting = True
        return True

    def wake(self, source: Tensor, out: Any, projection: bool) -> None:
        """Sees operations again. What it missed made ``out`` of ``source``, if it came to an end."""
        self._resting = False
        _push_mode(self)
        if not (projection or self.tracking) or not is_plain(out):
            return
        if projection:
            self._followed.features.projected(out, -1)
            if self.tracking:
                self.origins.projected(source, out)
        else:
            self.origins.derived([source], out)

    def follows(self, tensor: Tensor) -> bool:
        """Whether the tensor may be scores or weights."""
        return self._followed.follows(tensor)

    def let_go(self) -> None:
        """Forgets the scores and weights that are gone."""
        if not self._followed.idle:
            self._followed.let_go()

    # --- operations -------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _looking.deep:  # what a recorder above this one computes in order to see
            return func(*args, **kwargs)
        operator = operator_of(func)
        if types:  # a subclass with operations of its own, which are not seen
            return func(*args, **kwargs)
        if operator.ragged and args and is_ragged(args[0]):
            return self._ragged(func, args, kwargs)
        if operator.fused is not None:
            instead = self._instead(operator, func, args, kwargs)
            if instead is not None:
                return instead
        if operator.composite and torch.is_inference_mode_enabled():
            # Views of parameters say that they require gradients even here, and matmul looks at that.
            with torch._C._SetExcludeDispatchKeyGuard(torch._C.DispatchKey.ADInplaceOrView, False):
                if operator.fused is None:
                    return self._in_parts(func, args, kwargs)
                out = func(*args, **kwargs)
        else:
            out = func(*args, **kwargs)
        if operator.view or operator.dull and not self.tracking and self._followed.idle:
            return out
        if self._is_backward():
            return out
        if not _len_torch_dispatch_stack():
            self._look_and_tell(operator, func, args, kwargs, out)
            return out
        _looking.deep += 1
        try:
            self._look_and_tell(operator, func, args, kwargs, out)
        finally:
            _looking.deep -= 1
        return out

    def _look_and_tell(self, operator: Operator, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Looks at an operation that has run, and hands over what is recognised."""
        try:
            self._see(operator, func, args, kwargs, out)
        except Exception as error:
            self._failed(operator.name, error)
        while self._caught:
            caught = self._caught.pop(0)
            caught.result = out[0] if isinstance(out, (tuple, list)) else out
            self._emit(caught)

    def _instead(self, operator: Operator, func: Any, args: Any, kwargs: Any) -> Any:
        """What is returned instead of running attention that is one operation; ``None``: it is run."""
        return None

    def _is_backward(self) -> bool:
        """Whether what runs is a backward pass."""
        return bool(torch._C._current_graph_task_id() != -1)

    def _see(self, operator: Operator, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """Looks at an operation that has run."""
        if operator.fused is None:
            self._look(operator, func, args, kwargs, out)
        else:
            with observing():
                self._look(operator, func, args, kwargs, out)

    def _ragged(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs an operation on nested tensors."""
        out = func(*args, **kwargs)
        try:
            with observing():
                caught = self._ragged_scores.look(func, args, kwargs, out)
            if caught is not None:
                caught.result = out[0] if isinstance(out, tuple) else out
        except Exception as error:
            self._failed(f"attention of nested tensors ({func})", error)
            return out
        if caught is not None:
            self._emit(caught)
        return out

    def _in_parts(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs a composite operator as it runs anyway, with its parts coming here."""
        _push_mode(self)
        try:
            return func._op_dk(_COMPOSITE, *args, **kwargs)
        finally:
            _pop_mode(None)

    def _look(self, operator: Operator, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        if operator.fused is not None:
            caught = operator.fused(args, kwargs, out)
            if caught is not None:
                self._caught.append(caught)
            return
        if operator.out is not None:
            self._put_into(operator, func, args, kwargs, out)
            return
        if operator.written:
            self._written(operator, func, args, kwargs, out)
            return
        self._computed(operator, func, args, kwargs, out)

    def _computed(self, operator: Operator, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """An operation made a new tensor."""
        if self._projects(operator, args, out):
            return
        if operator.eager is not None:
            if operator.starts or not self._followed.quiet:
                operator.eager(self._followed, args, kwargs, out)
            if func is aten.where.self and is_plain(args[0]) and is_plain(out) and _hides(*args):
                self.masks.remember(args[0], out)
        elif operator.rewrites and not self._followed.idle:
            rewritten(self._followed, func, args, kwargs, out)
        if operator.projection is None:
            self._follow(operator, args, out)

    def _written(self, operator: Operator, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """An operation wrote to its first argument, a tensor or several."""
        targets = _tensors(args[:1])
        for target in targets:
            self.masks.written(target)
            self.origins.written(target, _tensors(args[1:]))
        if operator.eager is None and self._followed.idle:
            return
        for target in targets:
            self._followed.source_written(target)
        followed = [target for target in targets if self._followed.follows(target)]
        if operator.eager is not None and all(map(self._followed.covers, followed)):
            operator.eager(self._followed, args, kwargs, out)
        elif followed:
            written(self._followed, func, args, kwargs)

    def _put_into(self, operator: Operator, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        """An operation put its result into a tensor that was there."""
        for target in _tensors((out,)):
            self.masks.written(target)
            self._followed.source_written(target)
        before = [(target, self._followed.record(target)) for target in _tensors((out,))]
        self._computed(operator, func, args, kwargs, out)
        for target, known in before:
            if known is not None and self._followed.record(target) is known:
                self._followed.overwritten(target, operator.name)

    def _projects(self, operator: Operator, args: Any, out: Any) -> bool:
        """Whether a product is one with the model's weights; where its result comes from is then noted."""
        places = operator.projection
        if places is None:
            return False
        source, weight = (args[place] for place in places)
        if not (is_plain(weight) and is_plain(source)):
            return False
        if self._is_weight(source):
            source, weight = weight, source
        elif not self._is_weight(weight):
            return False
        if self.tracking:
            self.origins.projected(source, out)
        if operator.features is not None and is_plain(out):
            self._followed.features.projected(out, operator.features)
        if not self._followed.idle:
            self._followed.mixed(source, out)
        return True

    def _follow(self, operator: Operator, args: Any, out: Any) -> None:
        """Notes where the result of any other operation comes from, and what it means for scores."""
        tensors = _tensors(args)
        if isinstance(out, tuple) and out:
            out = out[0]  # of a normalisation, say
        if is_plain(out):
            if operator.joins:
                self.origins.joined(tensors, out)
            elif self.tracking and out.is_floating_point():
                self.origins.derived([t for t in tensors if not self._is_weight(t)], out)
                if operator.eager is not None and tensors:
                    self._followed.features.derived(tensors[0], out)
            if operator.eager is None and not self._followed.idle:
                self._followed.other(operator.name, tensors, out)


def _hides(mask: Tensor, yes: Any, no: Any) -> bool:
    """Whether where(mask, yes, no) is 0 where the mask is True and -inf elsewhere."""
    return (
        mask.dtype == torch.bool
        and all(isinstance(t, Tensor) and t.dim() == 0 and t.device.type == "cpu" for t in (yes, no))
        and float(yes) == 0
        and float(no) < -1e30
    )


def _tensors(args: Any) -> list[Tensor]:
    """The plain tensors among the arguments, and in lists among them."""
    tensors = []
    for value in args:
        if is_plain(value):
            tensors.append(value)
        elif isinstance(value, (list, tuple)):
            tensors.extend(one for one in value if is_plain(one))
    return tensors

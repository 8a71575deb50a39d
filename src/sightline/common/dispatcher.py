"""Whether a call may skip PyTorch's dispatcher, which costs a short sequence as much as its attention does.

An operator exists so that others can take part in a call: tracing and compilation, vmap and torch.func,
modes, profilers, tensor subclasses, lazy negation. Where none of them does, calling the backend right away
gives the same result. The dispatcher's own key sets say who takes part: anything that is not known to be
harmless goes through the operator, and so does everything where this PyTorch does not offer the look.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

try:
    from torch._C import (
        DispatchKey,
        DispatchKeySet,
        _dispatch_keys,
        _dispatch_tls_local_exclude_set,
        _dispatch_tls_local_include_set,
        _len_torch_dispatch_stack,
        _len_torch_function_stack,
    )
    from torch._C._functorch import (
        TransformType,
        get_interpreter_stack,
        get_unwrapped,
        is_batchedtensor,
        is_functorch_wrapped_tensor,
        peek_interpreter_stack,
    )
    from torch._functorch import eager_transforms
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
    from torch.autograd import _profiler_enabled, forward_ad  # type: ignore[attr-defined]

    _OFFERED = (
        hasattr(DispatchKeySet, "raw_repr")
        and hasattr(forward_ad, "_current_level")
        and hasattr(eager_transforms, "JVP_NESTING")
    )
except ImportError:  # private names, which a later PyTorch may drop
    _OFFERED = False

_PLAIN_TYPES = (Tensor, torch.nn.Parameter)


def is_quiet() -> bool:
    """Whether nothing listens in this thread: no tracing, transform, mode or profiler."""
    return (
        not torch.compiler.is_compiling()
        and _OFFERED
        and _len_torch_function_stack() == 0
        and not _profiler_enabled()
        and forward_ad._current_level < 0
        and _harmless(
            _dispatch_tls_local_include_set().raw_repr(), _dispatch_tls_local_exclude_set().raw_repr()
        )
    )


def saves_elsewhere() -> bool:
    """Whether what autograd saves goes through hooks, as under checkpointing; PyTorch 2.6 cannot tell."""
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)
    return top is None or top(True) is not None


def _is_exporting() -> bool:
    """For PyTorch 2.6: a flag that is set for exporting alone, and what its compiler was started for."""
    compiler = sys.modules.get("torch._dynamo.symbolic_convert")
    translator = None if compiler is None else getattr(compiler.tls, "current_tx", None)
    return bool(torch.compiler._is_compiling_flag) or (translator is not None and bool(translator.export))


_is_exporting._dynamo_marked_constant = True  # type: ignore[attr-defined]

#: Whether a program is being exported.
is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", _is_exporting)


def are_chosen_for(tensors: Iterable[Tensor | None]) -> bool:
    """Whether operators may be chosen by what is fastest: ordinary tensors on the CPU, and no transform.

    Modes and profilers may listen, as it is PyTorch's operators that they hear of.
    """
    if torch.compiler.is_compiling() or not _OFFERED:
        return False
    if forward_ad._current_level >= 0 or peek_interpreter_stack() is not None:
        return False
    return all(
        t is None or (type(t) in _PLAIN_TYPES and t.device.type == "cpu" and t.layout is torch.strided)
        for t in tensors
    )


def are_readable(tensors: Iterable[Tensor | None]) -> bool:
    """Whether values lie where pointers say, and no mode would miss an operator that is not called."""
    return _OFFERED and _len_torch_dispatch_stack() == 0 and are_plain(tensors)


def is_transformed() -> bool:
    """Whether derivatives or batches of torch.func, or forward mode, take part: each needs a rule of its own.

    ``functionalize`` does not: it is content with an operator.
    """
    if torch.compiler.is_compiling() or not _OFFERED:
        return False
    innermost = peek_interpreter_stack()
    if innermost is None:
        return forward_ad._current_level >= 0
    return bool(innermost.key() != TransformType.Functionalize)


def is_transformed_while_compiling() -> bool:
    """The same for a function that is being compiled, at the time when it is."""
    return _OFFERED and (forward_ad._current_level >= 0 or peek_interpreter_stack() is not None)


# What torch.compiler.assume_constant_result does, without loading the compiler for all who never compile.
is_transformed_while_compiling._dynamo_marked_constant = True  # type: ignore[attr-defined]


def is_wrapped() -> bool:
    """Whether a transform of torch.func is under way."""
    return _OFFERED and peek_interpreter_stack() is not None


def innermost_is_forward_mode() -> bool:
    """Whether dual tensors are those of the innermost transform."""
    innermost = peek_interpreter_stack() if _OFFERED else None
    if innermost is None:
        return _OFFERED and forward_ad._current_level >= 0
    return bool(innermost.key() == TransformType.Jvp)


def out_of_forward_mode(tensors: Iterable[Tensor | None]) -> list[Tensor | None] | None:
    """Primals or tangents of forward mode without its wrappers, to be computed with :func:`outside` of it.

    ``None`` where another transform, a mode or a profiler takes part, or one is no ordinary tensor in the
    CPU's memory.
    """
    if not _OFFERED or torch.compiler.is_compiling() or _len_torch_function_stack() or _profiler_enabled():
        return None
    stack = get_interpreter_stack()
    if stack is not None and [one.key() for one in stack] != [TransformType.Jvp]:
        return None
    bare = [None if t is None else unwrapped(t) for t in tensors]
    return bare if _len_torch_dispatch_stack() == 0 and all(t is None or _is_bare(t) for t in bare) else None


def _is_bare(tensor: Tensor) -> bool:
    ordinary = tensor.device.type == "cpu" and tensor.layout is torch.strided and not tensor.is_neg()
    return type(tensor) in _PLAIN_TYPES and ordinary


def outside() -> AbstractContextManager[Any]:
    """Outside of the transforms of torch.func that are under way."""
    return temporarily_clear_interpreter_stack() if is_wrapped() else nullcontext()


def forward_mode_is_taken() -> bool:
    """Whether a level of ``torch.autograd.forward_ad`` is open, inside of which torch.func.jvp cannot run."""
    return _OFFERED and forward_ad._current_level >= 0 and eager_transforms.JVP_NESTING == 0


def unwrapped(tensor: Tensor) -> Tensor:
    """The tensor itself, without the wrappers of torch.func; that of a vmap has the samples' axis."""
    while _OFFERED and is_functorch_wrapped_tensor(tensor):
        tensor = get_unwrapped(tensor)
    return tensor


def has_samples(tensor: Tensor) -> bool:
    """Whether a vmap stands for several tensors here, so that its values cannot be looked at."""
    while _OFFERED and is_functorch_wrapped_tensor(tensor):
        if is_batchedtensor(tensor):
            return True
        tensor = get_unwrapped(tensor)
    return False


def are_plain(tensors: Iterable[Tensor | None]) -> bool:
    """Whether all of them are ordinary tensors in the CPU's memory; ask only where it :func:`is_quiet`."""
    for t in tensors:
        if t is not None and not (type(t) in _PLAIN_TYPES and _ordinary(_dispatch_keys(t).raw_repr())):
            return False
    return True


def are_recorded(tensors: Iterable[Tensor | None]) -> bool:
    """Whether autograd has to know what happens to them."""
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors if t is not None)


# Few sets occur, and each is looked into once.
@functools.lru_cache(maxsize=256)
def _harmless(included: int, excluded: int) -> bool:
    """What a thread includes and excludes by itself, with or without inference mode and autocast."""
    inference = not _holds(included, "ADInplaceOrView")
    known = _set("BackendSelect") if inference else _set("BackendSelect", "ADInplaceOrView")
    # Without autograd outside inference mode, somebody's operator is running and calls us from within.
    autograd_off = _holds(excluded, "AutogradOther")
    return included == known and autograd_off == inference


@functools.lru_cache(maxsize=256)
def _ordinary(keys: int) -> bool:
    """Data that lie where the pointer says, as they are; autograd's keys are absent in inference mode."""
    return keys in (_set("CPU", "AutocastCPU"), _set("CPU", "AutocastCPU", "ADInplaceOrView", "AutogradCPU"))


def _holds(keys: int, name: str) -> bool:
    """What DispatchKeySet.has says; PyTorch 2.6 makes no set of a number."""
    return keys & _set(name) == _set(name)


def _set(*names: str) -> int:
    keys = DispatchKeySet(getattr(DispatchKey, names[0]))
    for name in names[1:]:
        keys = keys.add(getattr(DispatchKey, name))
    return int(keys.raw_repr())

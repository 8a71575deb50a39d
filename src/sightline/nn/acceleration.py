"""Layers of a model as it stands, turned into Sightline's and back."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sightline.common import slots
from sightline.common.check import flag, kind
from sightline.nn.linear import Linear, OutputLinear
from sightline.nn.multihead_attention import MultiheadAttention
from sightline.products import LargePages, Packable, PackedWeight, move_to_large_pages
from sightline.products.ways import DTYPES

#: A class of PyTorch's, and ours that has the same parameters and gives the same results.
SWAPS: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Linear: Linear,
    NonDynamicallyQuantizableLinear: OutputLinear,
    nn.MultiheadAttention: MultiheadAttention,
}

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass
class Acceleration:
    """What :func:`accelerate` did to a model; ``undo()``, or the end of a ``with`` block, takes it back.

    Attributes:
        linear: names of the linear layers that multiply in the fastest way.
        attention: names of the layers, or models of Transformers, whose attention is Sightline's.
        left: why layers stayed as they were, by name.
        packed: names of the linear layers whose weights are packed for inference.
        large_pages: how much of the model's memory lies in large pages. It goes on to lie there.

    Example:
        >>> import sightline, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        >>> with sightline.accelerate(model) as acceleration:
        ...     acceleration.linear
        ('0', '2')
        >>> type(model[0]) is torch.nn.Linear
        True
    """

    linear: tuple[str, ...] = ()
    attention: tuple[str, ...] = ()
    left: Mapping[str, str] = field(default_factory=dict)
    packed: tuple[str, ...] = ()
    large_pages: LargePages = field(default_factory=LargePages)
    _undo: list[Callable[[], None]] = field(default_factory=list, repr=False)
    _weights: list[PackedWeight] = field(default_factory=list, repr=False)

    def undo(self) -> None:
        """Makes the model what it was; doing so again is harmless."""
        while self._undo:
            self._undo.pop()()

    def repack(self) -> None:
        """Packs weights anew at their next product: after changes through ``.data``, which PyTorch hides."""
        for weight in self._weights:
            weight.forget()

    def __enter__(self) -> Acceleration:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()

    def __str__(self) -> str:
        lines = [
            f"linear layers: {len(self.linear)}",
            f"attention: {', '.join(self.attention) or 'as it was'}",
        ]
        if self.packed:
            lines.append(f"packed weights: {len(self.packed)}")
        if self.large_pages.of:
            lines.append(f"large pages: {self.large_pages}")
        return "\n".join(lines + [f"left: {name}: {reason}" for name, reason in self.left.items()])


def accelerate(model: nn.Module, *, packed: bool = False, large_pages: bool = True) -> Acceleration:
    """Turns a model's linear layers, and its attention where that can be, into Sightline's, in place.

    Linear layers multiply in the way that is fastest on this machine (see :func:`sightline.product`), forward
    and backward; attention runs on Sightline's kernels. Results are exact to rounding; parameters, buffers
    and ``state_dict`` stay what they are, so an optimizer goes on and checkpoints fit.

    ``torch.nn.Linear``, ``torch.nn.MultiheadAttention`` and, in models of Hugging Face Transformers, Conv1D
    and the attention implementation are turned. Left alone are layers of other classes, on other devices, in
    other dtypes, whose weights are quantized or sharded, or that carry hooks.

    Args:
        model: any module.
        packed: for inference. Each linear layer keeps a second copy of its weight, laid out for its product,
            and takes it without gradients where that is faster (measured once on each machine). Changes that
            PyTorch counts are followed: by optimizers, ``load_state_dict``, ``copy_``. After what was written
            through ``.data``, call ``repack()`` of what is returned.
        large_pages: asks the system to hold parameters and buffers in large pages of memory (2 MB), where
            they are. Takes about a second for each GB, once; on Linux 6.1 and later. Memory that this process
            shares with the one it was forked from becomes its own: accelerate before you fork. What is
            computed on the way lies in large pages after :func:`sightline.keep_freed_memory`.

    Returns:
        An :class:`Acceleration`, which says what was turned, what was not and why, and can be undone.

    Raises:
        TypeError: for what is no module, or a ``packed`` or ``large_pages`` that is no bool.

    Example:
        >>> import sightline, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2, dtype=torch.float64))
        >>> print(sightline.accelerate(model))
        linear layers: 1
        attention: as it was
        left: 1: its dtype is torch.float64
    """
    kind("model", model, nn.Module, "a torch.nn.Module")
    packed, large_pages = flag("packed", packed), flag("large_pages", large_pages)
    # First, because it takes long: whoever interrupts it has the model as it was.
    memory = itertools.chain(model.parameters(), model.buffers()) if large_pages else ()
    done = Acceleration(large_pages=move_to_large_pages(memory))
    swaps: dict[type, type] = dict(SWAPS)
    attention: list[str] = []
    left: dict[str, str] = {}
    if "transformers" in sys.modules:  # else there is no model of theirs
        theirs, attention, left, done._undo = slots.pretrained(model)
        swaps |= theirs
    linear, more, reasons = _turn(model, swaps, done._undo)
    done.linear, done.attention = tuple(linear), tuple(attention + more)
    done.left = left | reasons | _bypassed(model)
    if packed:
        weights = _pack(model, done.left, done._undo)
        done.packed, done._weights = tuple(weights), list(weights.values())
    return done


def _turn(
    model: nn.Module, swaps: Mapping[type, type], undo: list[Callable[[], None]]
) -> tuple[list[str], list[str], dict[str, str]]:
    """Turns what can be: names of linear layers, of attention, and why others were left, by name."""
    linear: list[str] = []
    attention: list[str] = []
    left: dict[str, str] = {}
    for name, module in model.named_modules():
        ours = swaps.get(type(module))
        if ours is None:
            if isinstance(module, nn.Linear) and not isinstance(module, Linear):
                left[name] = f"a {type(module).__name__} may multiply in its own way"
            continue
        reason = _why_left(module)
        if reason is not None:
            left[name] = reason
            continue
        undo.append(_swap(module, ours))
        (attention if issubclass(ours, nn.MultiheadAttention) else linear).append(name)
    return linear, attention, left


def _pack(
    model: nn.Module, left: Mapping[str, str], undo: list[Callable[[], None]]
) -> dict[str, PackedWeight]:
    """Packed weights for the linear layers that are ours, by name."""
    weights: dict[str, PackedWeight] = {}
    for name, module in model.named_modules():
        if name in left or _why_left(module) is not None or not isinstance(module, Packable):
            continue
        weights[name] = PackedWeight()
        module.packed = weights[name]
        undo.append(partial(vars(module).pop, "packed", None))
    return weights


def _swap(module: nn.Module, ours: type[nn.Module]) -> Callable[[], None]:
    """The module as one of ours, and what takes that back. Nothing but the class changes."""
    before = type(module)
    module.__class__ = ours

    def undo() -> None:
        if type(module) is ours:  # else somebody else has gone on from there
            module.__class__ = before

    return undo


def _why_left(module: nn.Module) -> str | None:
    for tensor in module.parameters(recurse=False):
        reason = _odd(tensor)
        if reason is not None:
            return reason
    if "forward" in vars(module):
        return "its forward was replaced on the instance"
    if any(getattr(module, hooks, None) for hooks in _HOOKS):
        return "it carries hooks"
    return None


def _odd(tensor: Tensor) -> str | None:
    if type(tensor) not in (Tensor, nn.Parameter) or type(tensor.data) is not Tensor:
        return f"its weight is a {type(tensor.data).__name__}"
    if tensor.device.type != "cpu":
        return f"it is on {tensor.device}"
    if tensor.dtype not in DTYPES:
        return f"its dtype is {tensor.dtype}"
    return None


def _bypassed(model: nn.Module) -> dict[str, str]:
    """Layers of PyTorch that pass their own layers by while nobody trains them."""
    if not torch.backends.mha.get_fastpath_enabled():
        return {}
    reason = (
        "in eval mode without gradients its fast path multiplies by itself; "
        "torch.backends.mha.set_fastpath_enabled(False) lets its layers do that"
    )
    return {name: reason for name, one in model.named_modules() if type(one) is nn.TransformerEncoderLayer}

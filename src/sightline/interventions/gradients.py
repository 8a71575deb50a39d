"""Gradients of a changed call: they reach what the model gave it, by way of the change.

Autograd has recorded the model's own operation before it is changed, and cannot be told otherwise. So what
arrives at that operation in a backward pass is led around it: the changed context, which was computed from
aliases of the model's tensors, is differentiated instead, and each tensor gets its share where its own
gradient passes by. The operation itself gets zeros. This holds for gradients of gradients, too.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sightline.tracing.storage import is_plain

#: Tensors of which aliases are kept at a time: what two or three layers compute with.
_KEPT = 512


class Aliases:
    """Aliases of a model's tensors that want gradients: what is computed from them ends there."""

    def __init__(self) -> None:
        self._of: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()

    def clear(self) -> None:
        """Forgets them."""
        self._of.clear()

    def instead(self, value: Any) -> Any:
        """The same arguments, with aliases for tensors that want gradients."""
        if isinstance(value, (list, tuple)):
            return type(value)([self.instead(one) for one in value])
        if not is_plain(value) or not value.requires_grad:
            return value
        known = self._of.get(id(value))
        if known is None:
            known = (value, value.view_as(value))
            self._of[id(value)] = known
            if len(self._of) > _KEPT:
                self._of.popitem(last=False)
        return known[1]

    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """The tensors and their aliases."""
        return list(self._of.values())


class Detour(NamedTuple):
    """A changed call whose gradients have to be led around the model's own operation.

    Attributes:
        result: what the operation made.
        view: sees a gradient of it as [B,H,N,E].
        context: the changed context [B,H,N,E], recorded.
        pairs: the model's tensors, and the aliases that the context was computed from.
        task: the backward pass in which it was made, of a checkpoint; -1 outside of any.
    """

    result: Tensor
    view: Callable[[Tensor], Tensor]
    context: Tensor
    pairs: list[tuple[Tensor, Tensor]]
    task: int


class _Waiting(threading.local):
    """Of each thread its own: detours whose operations autograd has yet to record."""

    def __init__(self) -> None:
        self.all: list[Detour] = []


_waiting = _Waiting()


def plan(detour: Detour) -> None:
    """Lays a detour once autograd has recorded the operation; a later one takes an earlier one's place."""
    _waiting.all = [one for one in _waiting.all if one.result is not detour.result]
    _waiting.all.append(detour)


def waiting() -> bool:
    """Whether detours wait."""
    return bool(_waiting.all)


def lay() -> None:
    """Lays the detours that wait."""
    known = [detour for detour in _waiting.all if detour.result.grad_fn is not None]
    if not known:
        return
    _waiting.all = [detour for detour in _waiting.all if detour.result.grad_fn is None]
    task = torch._C._current_graph_task_id()
    if task != -1 and not torch.is_grad_enabled() and any(detour.task != task for detour in known):
        raise RuntimeError(
            "intervene: a backward pass began before autograd could be told of the last change. Let the "
            "model be a module, or run another operation before the backward pass."
        )
    for detour in known:
        _Laid(detour).attach()


def give_up() -> None:
    """Forgets the detours of operations that autograd did not record."""
    _waiting.all = []


class _Laid:
    """A detour that is laid: hooks at the operation and at each tensor that it was given."""

    def __init__(self, detour: Detour) -> None:
        self._view, self._context = detour.view, detour.context
        found = _reached(detour.context, [alias for _, alias in detour.pairs])
        self._pairs = [pair for pair, used in zip(detour.pairs, found, strict=True) if used]
        self._shares: list[Tensor | None] = [None] * len(self._pairs)
        self._task = -1
        self._result: Tensor | None = detour.result

    def attach(self) -> None:
        """Puts the hooks in place."""
        result, self._result = self._result, None
        assert result is not None
        node, self._place = result.grad_fn, result.output_nr
        assert node is not None
        node.register_prehook(self._arrived)
        node.register_hook(_nothing)
        for place, (tensor, _) in enumerate(self._pairs):
            _Passing(self, place).attach(tensor)
        self._aliases = [alias for _, alias in self._pairs]
        self._pairs = []

    def _arrived(self, gradients: Any) -> Any:
        """The gradient of the result has arrived: the shares are computed, and zeros go on."""
        gradient = gradients[self._place]
        if gradient is None:
            return None
        arrived = self._view(gradient).to(self._context.dtype)
        found = torch.autograd.grad(
            self._context,
            self._aliases,
            arrived,
            retain_graph=True,
            create_graph=torch.is_grad_enabled(),
            allow_unused=True,
        )
        self._shares, self._task = list(found), torch._C._current_graph_task_id()
        return tuple(
            torch.zeros_like(one) if place == self._place else one for place, one in enumerate(gradients)
        )

    def share(self, place: int) -> Tensor | None:
        """A tensor's share in the backward pass that runs; once."""
        if self._task != torch._C._current_graph_task_id():
            return None
        share, self._shares[place] = self._shares[place], None
        return share


class _Passing:
    """Adds a tensor's share to its gradient when that passes by."""

    def __init__(self, laid: _Laid, place: int) -> None:
        self._laid, self._at = laid, place

    def attach(self, tensor: Tensor) -> None:
        tensor.register_hook(self)

    def __call__(self, gradient: Tensor) -> Tensor | None:
        share = self._laid.share(self._at)
        return None if share is None else gradient + share.to(gradient.dtype)


def _nothing(inputs: Any, outputs: Any) -> Any:
    """Whatever the operation makes of zeros, infinities and NaN included: zeros."""
    return tuple(None if one is None else torch.zeros_like(one) for one in inputs)


def _reached(context: Tensor, aliases: list[Tensor]) -> list[bool]:
    """Which aliases the context was computed from."""
    wanted = {alias.grad_fn for alias in aliases}
    met, open_ = set(), [context.grad_fn]
    while open_:
        node = open_.pop()
        if node is None or node in met:
            continue
        met.add(node)
        if node not in wanted:
            open_.extend(next_node for next_node, _ in node.next_functions)
    return [alias.grad_fn in met for alias in aliases]

"""Layers before a change are computed once: what they gave is given again.

The layers of a model are the items of its lists of modules. While a change is tried out, an item that had
ended before the changed one began gives what it gave without a change, without running. Whether a model takes
that is found out by comparing, before it is relied upon.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from sightline.removing.stacking import mapped, repeated
from sightline.tracing import modules


class _Run:
    """When an item ran, and what came of it."""

    def __init__(self, began: int) -> None:
        self.began, self.ended = began, -1
        self.output: Any = None
        self.times = 1


class Replay:
    """What the items of a model's lists gave in a run, recorded in :meth:`recording`.

    Args:
        model: the model.
        names: those of the modules in which attention runs.
    """

    def __init__(self, model: Any, names: list[str]) -> None:
        self._items: dict[str, nn.Module] = {}
        self._runs: dict[int, _Run] = {}
        self._clock = 0
        self.batch = 1
        if isinstance(model, nn.Module):
            self._items = _items(getattr(model, "_orig_mod", model), names)
        self._wanted = {id(module) for module in self._items.values()}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Keeps what each item gives in the block."""
        self._runs.clear()
        modules.listen(self)
        try:
            yield
        finally:
            modules.stop_listening(self)

    def entered(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module begins."""
        if id(module) not in self._wanted:
            return
        self._clock += 1
        known = self._runs.get(id(module))
        if known is None:
            self._runs[id(module)] = _Run(self._clock)
        else:
            known.times += 1

    def left(self, module: nn.Module, output: Any) -> None:
        """A module has run."""
        run = self._runs.get(id(module))
        if run is not None:
            self._clock += 1
            run.ended, run.output = self._clock, output

    def saves(self, name: str) -> int:
        """How many items need not run for a change in the module of that name."""
        return len(self._before(name))

    @contextmanager
    def before(self, name: str, count: int) -> Iterator[None]:
        """In the block, what ran before the item around that module gives what it gave, ``count`` times."""
        patched: list[tuple[nn.Module, Any]] = []
        try:
            for module, run in self._before(name):
                patched.append((module, module.__dict__.get("forward")))
                output = mapped(run.output, lambda tensor: repeated(tensor, self.batch, count))
                module.__dict__["forward"] = _Giving(output)
            yield
        finally:
            for module, forward in patched:
                if forward is None:
                    del module.__dict__["forward"]
                else:
                    module.__dict__["forward"] = forward

    def _before(self, name: str) -> list[tuple[nn.Module, _Run]]:
        around = [item for item in self._items if _inside(name, item)]
        if not around:
            return []
        own = self._runs.get(id(self._items[max(around, key=len)]))
        if own is None or own.times > 1:
            return []
        ended = {
            item: self._runs[id(module)]
            for item, module in self._items.items()
            if id(module) in self._runs
            and self._runs[id(module)].times == 1
            and 0 < self._runs[id(module)].ended < own.began
        }
        outermost = [item for item in ended if not any(item != o and _inside(item, o) for o in ended)]
        return [(self._items[item], ended[item]) for item in outermost]


class _Giving:
    """A forward that gives what is there."""

    def __init__(self, output: Any) -> None:
        self._output = output

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return mapped(self._output, lambda tensor: tensor)


def _items(model: nn.Module, names: list[str]) -> dict[str, nn.Module]:
    """The items of lists in which attention runs in two items or more."""
    found = {}
    for place, holder in model.named_modules():
        if not isinstance(holder, (nn.ModuleList, nn.Sequential)):
            continue
        items = {f"{place}.{key}" if place else key: item for key, item in holder.named_children()}
        if sum(any(_inside(name, item) for name in names) for item in items) > 1:
            found.update(items)
    return found


def _inside(name: str, holder: str) -> bool:
    return name == holder or name.startswith(f"{holder}.")

"""Which layers are traced: by name, glob, place or predicate."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from sightline.common.check import shown

Layers = str | int | Callable[[str], bool] | Iterable["str | int"]

_KINDS = "layers: takes names, globs, integers, a list of these, or one function of the name; got {}."


class LayerChoice:
    """A choice of layers.

    Args:
        layers: ``None`` for all; a module's name ("encoder.layer.3", with everything inside) or a glob
            ("decoder.*.self_attn"); an integer (the i-th layer with attention, in the order in which they
            first ran, self- and cross-attention counted apart); a function of the name; or a list of names
            and integers.
        names: the names of the model's modules; none if there is no model to check names against.
        order: the layers that ran so far, where several choices share them.
    """

    def __init__(
        self,
        layers: Layers | None,
        names: Iterable[str],
        order: dict[tuple[str, str], int] | None = None,
    ) -> None:
        self._patterns: list[str] = []
        self._places: list[int] = []
        self._predicate: Callable[[str], bool] | None = None
        self._order: dict[tuple[str, str], int] = {} if order is None else order
        self._matched: set[str] = set()
        self._all = layers is None
        if callable(layers):
            self._predicate = layers
        elif layers is not None:
            self._read([layers] if isinstance(layers, (str, int)) else layers, list(names))

    def _read(self, layers: Iterable[str | int], names: list[str]) -> None:
        if isinstance(layers, (bytes, Mapping)) or not isinstance(layers, Iterable):
            raise TypeError(_KINDS.format(shown(layers)))
        for one in layers:
            if isinstance(one, bool) or not isinstance(one, (str, int)):
                raise TypeError(_KINDS.format(shown(one)))
            if isinstance(one, int):
                if one < 0:
                    raise ValueError(
                        f"layers: {one} counts from the end, but how many layers there are is known only "
                        "after they ran. Count from 0, or give names."
                    )
                self._places.append(one)
            else:
                _check_name(one, names)
                self._patterns.append(one)
        if not self._places and not self._patterns:
            raise ValueError("layers: an empty list traces nothing; None traces all layers.")

    def takes(self, name: str, kind: str) -> bool:
        """Whether a call of this name and kind is wanted."""
        place = self._order.setdefault((name, kind), len(self._order))
        if self._all:
            return True
        if self._predicate is not None:
            return bool(self._predicate(name))
        matching = [pattern for pattern in self._patterns if _inside(name, pattern)]
        self._matched.update(matching)
        return bool(matching) or place in self._places

    def missing(self) -> str | None:
        """What was chosen and never ran, as a message; ``None`` if all of it did."""
        for place in self._places:
            if place >= len(self._order):
                return f"layers: there is no layer {place}; {len(self._order)} layers with attention ran."
        for pattern in self._patterns:
            if pattern not in self._matched:
                ran = ", ".join(repr(name) for name, _ in self._order) or "none"
                return f"layers: no attention ran in {pattern!r}. Attention ran in: {ran}."
        return None


def _inside(name: str, pattern: str) -> bool:
    """Whether the pattern names this module or one around it."""
    parts = name.split(".")
    return any(fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))


def _check_name(pattern: str, names: list[str]) -> None:
    if not names or any(fnmatchcase(name, pattern) for name in names):
        return
    near = difflib.get_close_matches(pattern, names, 3, 0.4)
    hint = f" Near: {', '.join(map(repr, near))}." if near else ""
    raise ValueError(f"layers: the model has no module {pattern!r}.{hint} See model.named_modules().")

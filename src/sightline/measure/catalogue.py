"""What measures there are: formula, unit, range, source and caveat of each, written once.

Panels, CSV headers and pictures read these entries; the docstrings are completed from them.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sightline.measure.docstrings import Function, completed


@dataclass(frozen=True)
class Measure:
    """One measure.

    Attributes:
        name: the function's name in ``sightline.measure``.
        summary: one sentence.
        formula: with w_ij for the weight of query i and key j.
        unit: of its numbers.
        range: the least and the largest value it can take; infinite where there is no bound.
        source: author, year, title.
        caveat: when not to trust it, one line.
        function: computes it.

    Example:
        >>> import sightline.measure
        >>> sightline.measure.about("sink_mass").unit
        'share of weight'
    """

    name: str
    summary: str
    formula: str
    unit: str
    range: tuple[float, float]
    source: str
    caveat: str
    function: Callable[..., Any]


_MEASURES: dict[str, Measure] = {}


def catalogued(
    *,
    formula: str,
    unit: str,
    source: str,
    caveat: str,
    range: tuple[float, float] = (0, math.inf),
) -> Callable[[Function], Function]:
    """Enters a function into the catalogue and its entry into the function's docstring."""

    def enter(function: Function) -> Function:
        summary = inspect.cleandoc(function.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        entry = Measure(function.__name__, summary, formula, unit, range, source, caveat, function)
        _MEASURES[entry.name] = entry
        function.__doc__ = completed(function, _facts(entry))
        return function

    return enter


def all() -> dict[str, Measure]:
    """Every measure by name, in alphabetical order.

    Example:
        >>> import sightline.measure
        >>> sightline.measure.all()["entropy"].unit
        'nats'
    """
    return dict(sorted(_MEASURES.items()))


def about(name: str) -> Measure:
    """One measure's formula, unit, range, source and caveat.

    Raises:
        ValueError: for a name that is not there.

    Example:
        >>> import sightline.measure
        >>> sightline.measure.about("sink_mass").range
        (0, 1)
    """
    if not isinstance(name, str) or name not in _MEASURES:
        raise ValueError(f"about: there is no measure {name!r}; known: {', '.join(all())}.")
    return _MEASURES[name]


def _facts(entry: Measure) -> str:
    """The entry as it stands in the docstring."""
    low, high = (f"{bound:g}" if math.isfinite(bound) else "∞" for bound in entry.range)
    sign = "-" if entry.range[0] == -math.inf else ""
    return (
        f"Formula: {entry.formula}\n\n"
        f"Unit: {entry.unit}, from {sign}{low} to {high}.\n\n"
        f"Source: {entry.source}\n\n"
        f"Caveat: {entry.caveat}"
    )

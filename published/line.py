"""One published result beside ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Line:
    """What was published, what comes out here, and whether that is the same.

    Attributes:
        what: the quantity.
        published: as published.
        ours: as it comes out through Sightline.
        difference: how far apart, and how far they may be.
        met: whether they are close enough.
    """

    what: str
    published: str
    ours: str
    difference: str
    met: bool


class NotRunError(Exception):
    """A check lacks something that nobody gave; the message says what, and where to get it."""


def number(what: str, published: float, ours: float, tolerance: float, digits: int = 4) -> Line:
    """A number: met where it lies within ``tolerance``. NaN never does."""
    apart = abs(ours - published)
    return Line(
        what,
        f"{published:.{digits}f}",
        f"{ours:.{digits + 3}f}",
        f"{apart:.1e} (up to {tolerance:g})",
        apart <= tolerance,
    )


def numbers(what: str, published: Sequence[float], ours: Sequence[float], tolerance: float) -> Line:
    """A row of numbers: met where each lies within ``tolerance``, and there are as many."""
    same = len(published) == len(ours)
    apart = (
        largest(abs(left - right) for left, right in zip(published, ours, strict=True)) if same else math.inf
    )
    return Line(what, _row(published), _row(ours), f"{apart:.1e} (up to {tolerance:g})", apart <= tolerance)


def distance(what: str, published: str, apart: float, tolerance: float) -> Line:
    """Tensors: met where the largest difference between theirs and ours is within ``tolerance``."""
    met = apart <= tolerance
    return Line(what, published, "the same" if met else "differs", f"{apart:.1e} (up to {tolerance:g})", met)


def equal(what: str, published: object, ours: object) -> Line:
    """Words, lists, labels: met where they are equal."""
    same = published == ours
    return Line(what, str(published), str(ours), "none" if same else "differs", same)


def count(what: str, published: str, holds: Sequence[bool]) -> Line:
    """Something that has to hold each time."""
    ours = f"{sum(holds)} of {len(holds)}"
    return Line(what, published, ours, "none" if all(holds) else "differs", all(holds))


def members(what: str, published: Sequence[str], ours: Sequence[str], most: int) -> Line:
    """A set: met where at most ``most`` members are in one of the two alone."""
    apart = len(set(published) ^ set(ours))
    return Line(what, " ".join(published), " ".join(ours), f"{apart} (up to {most})", apart <= most)


def largest(values: Iterable[float]) -> float:
    """The largest, and NaN where one is NaN, which Python's max passes over."""
    return float(torch.tensor(list(values), dtype=torch.float64).max())


def _row(values: Sequence[float]) -> str:
    """Four digits each; what is 0 but for rounding is 0."""
    return " ".join(f"{round(each, 6) + 0.0:.4g}" for each in values)

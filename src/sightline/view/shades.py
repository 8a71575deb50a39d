"""The sequential colour map of the terminal: from dark to bright, equal steps of lightness."""

from __future__ import annotations

from rich.style import Style

_ANCHORS = (
    (23, 19, 42),
    (53, 48, 106),
    (46, 90, 138),
    (36, 134, 141),
    (54, 176, 124),
    (151, 213, 73),
    (251, 231, 35),
)


def style(share: float, colours: bool) -> Style:
    """How to show ``share``, from 0 to 1: as a background, or by emphasis where colours are few."""
    if colours:
        return Style(color=foreground(share), bgcolor=background(share))
    return Style(bold=share >= 0.35, reverse=share >= 0.6, dim=share < 0.15)


def background(share: float) -> str:
    """The colour of ``share``, from 0 to 1."""
    return "#{:02x}{:02x}{:02x}".format(*_mix(share))


def foreground(share: float) -> str:
    """Black or white, whichever can be read on that colour."""
    red, green, blue = _mix(share)
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 120 else "#ffffff"


def _mix(share: float) -> tuple[int, int, int]:
    place = min(1.0, max(0.0, share)) * (len(_ANCHORS) - 1)
    at = min(int(place), len(_ANCHORS) - 2)
    low, high = _ANCHORS[at], _ANCHORS[at + 1]
    red, green, blue = (round(a + (place - at) * (b - a)) for a, b in zip(low, high, strict=True))
    return red, green, blue

"""The sequential colour map in the terminal: from dark to bright."""

from __future__ import annotations

from rich.style import Style

from sightline.view.colours import DARK, colour


def style(share: float, colours: bool) -> Style:
    """How to show ``share``, from 0 to 1: as a background, or by emphasis where colours are few."""
    if colours:
        return Style(color=foreground(share), bgcolor=background(share))
    return Style(bold=share >= 0.35, reverse=share >= 0.6, dim=share < 0.15)


def background(share: float) -> str:
    """The colour of ``share``, from 0 to 1."""
    return "#{:02x}{:02x}{:02x}".format(*colour(share, DARK))


def foreground(share: float) -> str:
    """Black or white, whichever can be read on that colour."""
    red, green, blue = colour(share, DARK)
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 120 else "#ffffff"

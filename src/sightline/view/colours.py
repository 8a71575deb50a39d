"""The two sequential colour maps: equal steps of lightness; web/common/colour.js has the same anchors."""

from __future__ import annotations

#: On paper more weight is more ink.
LIGHT = ("#fbfaec", "#dcebb0", "#95d18b", "#44ad8c", "#27808f", "#34528b", "#3d1f63")
#: On a dark screen more weight is more light.
DARK = ("#17132a", "#35306a", "#2e5a8a", "#24868d", "#36b07c", "#97d549", "#fbe723")


def colour(share: float, anchors: tuple[str, ...]) -> tuple[int, int, int]:
    """Red, green and blue, from 0 to 255, of ``share``, from 0 to 1."""
    place = min(1.0, max(0.0, share)) * (len(anchors) - 1)
    at = min(int(place), len(anchors) - 2)
    low, high = bytes.fromhex(anchors[at][1:]), bytes.fromhex(anchors[at + 1][1:])
    red, green, blue = (round(a + (place - at) * (b - a)) for a, b in zip(low, high, strict=True))
    return red, green, blue

"""A small picture as PNG (W3C, "Portable Network Graphics", 2003), by the standard library alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

from torch import Tensor

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def indexed_png(places: Tensor, palette: Sequence[tuple[int, int, int, int]]) -> bytes:
    """A picture of up to 256 colours.

    Args:
        places: [height,width] integers, each a place in the palette.
        palette: red, green, blue and opacity, from 0 to 255.

    Raises:
        ValueError: for an empty picture, or one that needs other places than the palette has.
    """
    if places.dim() != 2 or not places.numel():
        raise ValueError(f"places: must be [height,width] and not empty, got shape {list(places.shape)}.")
    if len(palette) > 256 or not 0 <= int(places.min()) <= int(places.max()) < len(palette):
        raise ValueError(
            f"places: from {int(places.min())} to {int(places.max())} do not fit a palette of "
            f"{len(palette)} colours (256 at most)."
        )
    height, width = places.shape
    # Eight bits for each place; every row begins with its filter, none.
    rows = b"".join(b"\0" + bytes(row) for row in places.tolist())
    return _SIGNATURE + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", b"".join(bytes(entry[:3]) for entry in palette)),
            _chunk(b"tRNS", bytes(entry[3] for entry in palette)),
            _chunk(b"IDAT", zlib.compress(rows, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

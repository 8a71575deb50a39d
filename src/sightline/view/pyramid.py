"""Where a tile lies: level ℓ shows cells of 2^ℓ × 2^ℓ weights, a tile has up to 256 × 256 cells."""

from __future__ import annotations

from dataclasses import dataclass

#: Cells along each side of a tile.
TILE = 256

#: Cells along the longer side of the picture from which all coarse levels are made.
COARSE = 1024


@dataclass(frozen=True)
class Tile:
    """One tile of the pyramid over a matrix [N,M]; tiles at the lower and right edge are smaller."""

    level: int
    row: int
    column: int


@dataclass(frozen=True)
class Region:
    """Rows top to bottom and columns left to right of the matrix, in cells of ``cell`` × ``cell`` weights."""

    top: int
    bottom: int
    left: int
    right: int
    cell: int

    @property
    def shape(self) -> tuple[int, int]:
        """Cells: height, width."""
        return -(-(self.bottom - self.top) // self.cell), -(-(self.right - self.left) // self.cell)

    @property
    def area(self) -> int:
        """Weights in the region."""
        return (self.bottom - self.top) * (self.right - self.left)


def top_level(n: int, m: int) -> int:
    """The level at which the whole matrix is one tile."""
    return _level(n, m, TILE)


def coarse_level(n: int, m: int) -> int:
    """The finest of the levels that are made in one pass over the whole matrix; 0 for a small matrix."""
    return _level(n, m, COARSE)


def _level(n: int, m: int, cells: int) -> int:
    level = 0
    while max(n, m) > cells << level:
        level += 1
    return level


def region_of(tile: Tile, n: int, m: int) -> Region:
    """The part of the matrix that a tile shows.

    Raises:
        ValueError: for a tile that the pyramid does not have.
    """
    if not 0 <= tile.level <= top_level(n, m):
        raise ValueError(f"level: must be from 0 to {top_level(n, m)}, got {tile.level}.")
    cell = 1 << tile.level
    side = TILE * cell
    rows, columns = -(-n // side), -(-m // side)
    if not 0 <= tile.row < rows or not 0 <= tile.column < columns:
        raise ValueError(
            f"tile: level {tile.level} has {rows} × {columns} tiles, "
            f"got row {tile.row}, column {tile.column}."
        )
    top, left = tile.row * side, tile.column * side
    return Region(top, min(n, top + side), left, min(m, left + side), cell)

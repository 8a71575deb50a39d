"""What a section is: cases, how they are measured, and the columns of its table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sightline.bench.session import Row, Session


@dataclass(frozen=True)
class Column:
    """A column: the row's entry, its heading, and how it is written: text, ms, percent, fine percent, ratio
    or number."""

    key: str
    heading: str
    kind: str


@dataclass(frozen=True)
class Section:
    """A table of the benchmark.

    Args:
        rows: measures, row after row; an interrupt keeps those that are done.
        note: how to read it, for the page and the terminal.
        peers: whether a column for every peer follows: how many times as long as Sightline it takes.
    """

    name: str
    title: str
    note: str
    columns: Sequence[Column]
    rows: Callable[[Session], Iterator[Row]]
    peers: bool = False


CASE = Column("case", "case", "text")
DTYPE = Column("dtype", "dtype", "text")
MS = Column("ms", "ms", "ms")
SPREAD = Column("spread", "± %", "percent")
OF_FMA_PEAK = Column("of_fma_peak", "of FMA peak", "percent")
OF_DOT_PEAK = Column("of_dot_peak", "of bf16 peak", "percent")
BEST_PEER = Column("best_peer", "best peer", "text")
X_BEST_PEER = Column("x_best_peer", "× best", "ratio")

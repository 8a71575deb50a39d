"""What a section is: cases, how they are measured, and the columns of its table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from sightline.bench.session import Row, Session


@dataclass(frozen=True)
class Column:
    """A column of a section's table.

    Attributes:
        key: the entry of a row that it shows.
        heading: its title.
        kind: how it is written: "text", "ms", "percent", "fine percent", "ratio", "error" or "number".
    """

    key: str
    heading: str
    kind: str


@dataclass(frozen=True)
class BenchSection:
    """A table of the benchmark.

    Attributes:
        name, title: for the command line and for the table.
        note: how to read it, for the page and the terminal.
        columns: of the table.
        rows: measures, row after row; after an interrupt the finished ones remain.
        peers: whether there is a column for every peer: how many times as long as Sightline it takes.
        contenders: who has such a column instead of the peers.
    """

    name: str
    title: str
    note: str
    columns: Sequence[Column]
    rows: Callable[[Session], Iterator[Row]]
    peers: bool = False
    contenders: Sequence[str] = ()


CASE = Column("case", "case", "text")
PASS = Column("pass", "pass", "text")
DTYPE = Column("dtype", "dtype", "text")
MS = Column("ms", "ms", "ms")
SPREAD = Column("spread", "± %", "percent")
OF_FMA_PEAK = Column("of_fma_peak", "of FMA peak", "percent")
OF_DOT_PEAK = Column("of_dot_peak", "of bf16 peak", "percent")
BEST_PEER = Column("best_peer", "best peer", "text")
X_BEST_PEER = Column("x_best_peer", "× best", "ratio")
ERROR = Column("error", "error", "error")
X_ERROR = Column("x_error", "× PyTorch's error", "ratio")

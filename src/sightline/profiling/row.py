"""A row of a profile's table."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class ProfileRow:
    """One measure of one head, over all documents. Each document counts once.

    Attributes:
        stack: which attention of the model: "self", or "encoder self", "decoder self" and "cross".
        layer: its layer there, from 0.
        module: the qualified name of the module that computes it.
        turn: which call of that module, from 0; above 0 only where layers share a module.
        head: from 0.
        measure: its name, see ``--measures``.
        count: how many documents have this number.
        mean: over the documents; NaN where there are none.
        std: with count - 1 in the denominator; NaN for one document.
        min, max: the extremes.
        p10, median, p90: quantiles, read off a histogram of 128 bins.
        label: what the head does, according to most of the labelled documents; "" for cross-attention, and
            where none was labelled.
        label_share: the share of them that agree.
    """

    stack: str
    layer: int
    module: str
    turn: int
    head: int
    measure: str
    count: int
    mean: float
    std: float
    min: float
    max: float
    p10: float
    median: float
    p90: float
    label: str
    label_share: float


#: The names of the columns.
NAMES = tuple(field.name for field in fields(ProfileRow))
#: The type of each column.
TYPES = {
    field.name: {"str": str, "int": int, "float": float}[str(field.type)] for field in fields(ProfileRow)
}
#: The columns with a number over the documents.
FIGURES = ("count", "mean", "std", "min", "max", "p10", "median", "p90")

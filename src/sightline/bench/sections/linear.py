"""A linear layer, each way that this machine has to multiply, beside PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from sightline.bench.case import DTYPES
from sightline.bench.sections.section import (
    CASE,
    DTYPE,
    ERROR,
    MS,
    OF_DOT_PEAK,
    OF_FMA_PEAK,
    PASS,
    SPREAD,
    X_ERROR,
    BenchSection,
    Column,
)  # fmt: skip
from sightline.bench.session import OURS, Row, Session
from sightline.bench.wholes.by_sightline import BySightline, ByWay
from sightline.bench.wholes.by_torch import ByTorch
from sightline.bench.wholes.case import Direction
from sightline.bench.wholes.contest import Entrant, contest
from sightline.bench.wholes.layers import linear_case
from sightline.products.choice import choose
from sightline.products.ways import WAYS

_THEIRS = "F.linear"
_WAYS = {f"way {name}": ByWay(name) for name in WAYS}
_ENTRANTS = {
    OURS: Entrant(BySightline()),
    _THEIRS: Entrant(ByTorch()),
    **{label: Entrant(one) for label, one in _WAYS.items()},
}


def rows(session: Session) -> Iterator[Row]:
    """Few, some and many rows; square, widening and narrowing; each dtype; forward, and with gradients."""
    heights = session.pick(full=(8, 128, 1024), quick=(8, 128), tiny=(2,))
    shapes = session.pick(full=((768, 768), (768, 3072), (3072, 768)), quick=((768, 768),), tiny=((8, 4),))
    directions: tuple[Direction, ...] = ("forward", "with backward")
    for dtype, (inputs, outputs), height, direction in product(DTYPES, shapes, heights, directions):
        case = linear_case(height, inputs, outputs, dtype, direction)
        row = contest(session, case, _ENTRANTS, _THEIRS)
        chosen = choose(DTYPES[dtype], height, inputs * outputs, direction != "forward")
        yield row | {
            "way": chosen[0] if len(set(chosen)) == 1 else ", ".join(chosen),
            "theirs_of_fma_peak": row["contenders"][_THEIRS].get("of_fma_peak"),
        }


SECTION = BenchSection(
    name="linear",
    title="Linear layers",
    note=(
        "(rows, inputs → outputs). ms is that of the way that Sightline chooses, named beside it: of the "
        "product, and of its two gradients. A way is sightline.product(name), forced; with backward: the "
        "gradients of x, weight and bias as well."
    ),
    columns=(
        CASE, DTYPE, PASS, MS, SPREAD, Column("way", "chosen", "text"), OF_FMA_PEAK, OF_DOT_PEAK,
        Column("theirs_of_fma_peak", "F.linear of FMA peak", "percent"), ERROR, X_ERROR,
    ),
    rows=rows,
    contenders=tuple(_ENTRANTS),
)  # fmt: skip

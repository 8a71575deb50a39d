"""Self-attention with its projections, beside whole layers of others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

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
)  # fmt: skip
from sightline.bench.session import OURS, Row, Session
from sightline.bench.wholes.by_sightline import BySightline, MemoryKept
from sightline.bench.wholes.by_torch import ByCompile, ByTorch, InLargePages
from sightline.bench.wholes.case import Direction
from sightline.bench.wholes.contest import LIBRARIES, Entrant, contest
from sightline.bench.wholes.layers import self_attention_case

_THEIRS, _LARGE, _COMPILED = "MultiheadAttention", "in large pages", "torch.compile"
_ENTRANTS = {
    OURS: Entrant(BySightline()),
    "memory kept": Entrant(MemoryKept()),
    _THEIRS: Entrant(ByTorch()),
    _LARGE: Entrant(InLargePages()),
    _COMPILED: Entrant(ByCompile()),
    **LIBRARIES,
}


def rows(session: Session) -> Iterator[Row]:
    """A batch of short texts and one long one; forward, and with backward."""
    sizes = session.pick(
        full=((8, 128), (1, 1024)), quick=((4, 128),), tiny=((2, 5),)
    )  # fmt: skip
    width, heads = session.pick(full=(768, 12), quick=(768, 12), tiny=(8, 2))
    # Compiling takes longer than everything else of a tiny run.
    entrants = {
        name: one for name, one in _ENTRANTS.items() if session.settings.size != "tiny" or name != _COMPILED
    }
    directions: tuple[Direction, ...] = ("forward", "with backward")
    for dtype, (batch, length), direction in product(("float32", "bfloat16"), sizes, directions):
        case = self_attention_case(batch, length, width, heads, dtype, direction)
        yield contest(session, case, entrants, _THEIRS)


SECTION = BenchSection(
    name="layer",
    title="Self-attention with its projections",
    note=(
        "sightline.accelerate(sightline.nn.SelfAttention) beside torch.nn.MultiheadAttention("
        "need_weights=False) with the same weights: as it is, with its weights in large pages of memory as "
        "accelerate moves them, compiled, and exported to other libraries. Memory kept is ours after "
        "sightline.keep_freed_memory(), in a process of its own. (B,N), full attention. With backward: the "
        "gradients of x and of all parameters as well."
    ),
    columns=(CASE, DTYPE, PASS, MS, SPREAD, OF_FMA_PEAK, OF_DOT_PEAK, ERROR, X_ERROR),
    rows=rows,
    contenders=tuple(_ENTRANTS),
)

"""What a notebook shows of a trace or a matrix: the explorer if it is small, else pictures of heads."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sightline.common.errors import CommandError
from sightline.measure.sources import CAVEAT
from sightline.reading.errors import InputError
from sightline.reading.reading import LayerFacts, Reading, Section, sees_first_only
from sightline.reading.tokens import tokens_of_places
from sightline.reading.traced import reading_of, shown
from sightline.view.colours import LIGHT, colour
from sightline.view.page_size import PAGE_LIMIT, least_bytes
from sightline.view.png import indexed_png
from sightline.view.report import report_parts
from sightline.view.server.blocks import AT_ONCE, sampling_step, work
from sightline.view.server.cancel import Cancel
from sightline.view.server.readings import pictures
from sightline.view.summary import Selection, summarize

if TYPE_CHECKING:
    from sightline.matrix import AttentionMatrix
    from sightline.tracing.calls import Calls

#: The most queries or keys of a matrix that is shown whole.
TOKENS = 1024
#: The most bytes of a page that is embedded in a notebook.
PAGE = 8_000_000

_EMPTY_PAGE = 500_000  # bytes of a page without any numbers
_HEIGHT = 720  # of the frame, CSS pixels
_CELLS, _WIDTH = 64, 160  # of a picture along its longer side: cells, and CSS pixels
_ROWS = 256  # rows that a picture is made from where reading all would take long
_HEADS_OF_MATRIX, _HEADS_OF_CALL = 8, 4
_LEGEND = (
    "Rows are queries, columns keys. A cell's shade is the square root of its share of the darkest one; "
    f"hidden cells are clear. {CAVEAT}"
)
_SHADES = 255
_PALETTE = [(*colour(at / (_SHADES - 1), LIGHT), 255) for at in range(_SHADES)] + [(0, 0, 0, 0)]


def html_of_trace(trace: Calls) -> str:
    """The HTML of a trace; if it cannot be shown, a line that says why, never an exception."""
    return _without_fail(trace, lambda: _trace(trace))


def html_of_matrix(matrix: AttentionMatrix) -> str:
    """The HTML of a matrix; if it cannot be shown, a line that says why, never an exception."""
    return _without_fail(matrix, lambda: _matrix(matrix))


def _without_fail(thing: object, show: Callable[[], str]) -> str:
    try:
        return show()
    except CommandError as error:
        return _line(f"{thing!r}: {error}")
    except Exception as error:
        # Displaying a result must never end a notebook cell in a traceback.
        return _line(f"{thing!r} cannot be shown: {type(error).__name__}: {error}")


def _trace(trace: Calls) -> str:
    calls, left_out = shown(trace, None, False)
    matrices = [call.matrix for call in calls]
    if _fits(matrices):
        page = _frame(reading_of(trace), repr(trace), "trace.report('page.html') writes this page as a file")
        if page is not None:
            return page
    first = matrices[0]
    facts = f"{trace!r}, the first {list(first.shape)}, {first.dtype}, {first.device}"
    ask = "to explore it: trace.save('trace.safetensors'), then: sightline serve trace.safetensors"
    if sum(map(least_bytes, matrices)) <= PAGE_LIMIT:
        ask = f"trace.report('page.html') writes a page to explore; {ask}"
    few = [calls[at] for at in sorted({0, len(calls) // 2, len(calls) - 1})]
    rows = [_row(call.name or f"call {call.index}", call.matrix, _HEADS_OF_CALL) for call in few]
    return _caption(facts, (*trace.notices, *left_out, *_batch(first)), ask) + "".join(rows) + _line(_LEGEND)


def _matrix(matrix: AttentionMatrix) -> str:
    if 0 in matrix.shape:
        return _line(f"{matrix!r} is empty")
    whole = matrix.four_axes().detach()
    ask = "numbers: A[b, h, rows, cols], A.topk(k), A.entropy(), A.pool(height, width)"
    if _fits([whole]):
        page = _frame(reading_of_matrix(whole), repr(matrix), ask)
        if page is not None:
            return page
    row = _row("matrix", whole, _HEADS_OF_MATRIX)
    return _caption(repr(matrix), _doubts(whole), ask) + row + _line(_LEGEND)


def reading_of_matrix(matrix: AttentionMatrix) -> Reading:
    """A matrix [B,H,N,M] as a reading of its first batch entry; with N = M taken for self-attention."""
    _, _, n, m = matrix.shape
    entry, queries, is_self = matrix.select(batch=slice(0, 1)).cpu(), tokens_of_places(n), n == m
    section = Section(
        "attention",
        queries,
        queries if is_self else tokens_of_places(m),
        (entry,),
        is_self,
        is_self and n > 1 and sees_first_only(entry),
        (LayerFacts("", matrix.verified, matrix.reason or ""),),
    )
    return Reading("an attention matrix", (), (section,), _doubts(matrix))


def _doubts(matrix: AttentionMatrix) -> tuple[str, ...]:
    doubts = () if matrix.reason is None else (f"unverified: {matrix.reason}",)
    return (*_batch(matrix), *doubts)


def _batch(matrix: AttentionMatrix) -> tuple[str, ...]:
    return (f"batch entry 0 of {matrix.shape[0]}",) if matrix.shape[0] > 1 else ()


def _fits(matrices: Iterable[AttentionMatrix]) -> bool:
    """Whether a page of these is small enough for a notebook."""
    size: float = _EMPTY_PAGE
    for matrix in matrices:
        size += least_bytes(matrix)
        if max(matrix.shape[2:]) > TOKENS or size > PAGE:
            return False
    return True


def _frame(reading: Reading, what: str, more: str) -> str | None:
    """The page in a frame of its own, or ``None`` if it would be too large for a notebook."""
    matrices = [matrix for section in reading.sections for matrix in section.layers]
    left = PAGE - _EMPTY_PAGE - sum(map(least_bytes, matrices))
    try:
        page = "".join(report_parts(summarize(reading, Selection()), int(left * 3 / 4)))
    except InputError:
        return None  # a dense mask or bias is too large for any page
    if len(page) > PAGE:
        return None
    title = html.escape(f"Sightline: {what}")
    # No "allow-same-origin": the page reaches neither the notebook nor its server.
    frame = (
        f'<iframe title="{title}" width="100%" height="{_HEIGHT}" style="border: 1px solid #8888" '
        f'sandbox="allow-scripts allow-downloads" srcdoc="{html.escape(page)}"></iframe>'
    )
    return _caption(what, reading.notices, more) + frame


def _row(name: str, matrix: AttentionMatrix, most: int) -> str:
    """Pictures of the first heads of a matrix [B,H,N,M], from sampled rows where all would take long."""
    _, heads, n, m = matrix.shape
    matrix = matrix.select(slice(0, 1), slice(0, most)).detach().cpu()
    step = 1
    if work(matrix, slice(None), m) > AT_ONCE:
        step = min(n, sampling_step(matrix, slice(None), m, 4 * AT_ONCE, -(-n // _ROWS)))
    images = pictures(matrix, _CELLS, step, Cancel())
    rows = f"{len(range(step // 2, n, step)):,} of {n:,} rows, sampled" if step > 1 else f"all {n:,} rows"
    caption = (
        f"{name}: mean weights of {images.shape[1]} × {images.shape[2]} cells, from {rows}, {m:,} columns"
    )
    figures = "".join(_figure(values, head, caption, n, m) for head, values in enumerate(images))
    some = f"; the first {len(images)} of {heads} heads" if len(images) < heads else ""
    return _line(caption + some) + f'<div style="display: flex; flex-wrap: wrap; gap: 8px">{figures}</div>'


def _figure(values: Tensor, head: int, caption: str, n: int, m: int) -> str:
    """One head [h,w], its largest cell the darkest, with hidden cells left out."""
    seen = ~values.isnan()
    most = float(values[seen].max()) if bool(seen.any()) else 0.0
    share = (values / most).clamp(0, 1).sqrt() if most > 0 else values * 0
    places = (share.nan_to_num(nan=0.0) * (_SHADES - 1)).round().to(torch.int64)
    data = base64.b64encode(indexed_png(places.masked_fill(~seen, _SHADES), _PALETTE)).decode("ascii")
    width, height = (max(8, round(_WIDTH * side / max(n, m))) for side in (m, n))
    alt = html.escape(f"{caption}; head {head}, largest {most:.3g}")
    return (
        f'<figure style="margin: 0"><img alt="{alt}" src="data:image/png;base64,{data}" width="{width}" '
        f'height="{height}" style="image-rendering: pixelated; border: 1px solid #8888">'
        f"<figcaption><small>head {head} · darkest {most:.3g}</small></figcaption></figure>"
    )


def _caption(what: str, notices: Sequence[str], more: str) -> str:
    """A line: what is shown, the first notices about it, and what to call for more."""
    several = (f"{len(notices) - 3} more notices",) if len(notices) > 3 else ()
    return _line(" · ".join([what, *notices[:3], *several, more]))


def _line(text: str) -> str:
    return f'<p style="margin: 4px 0">{html.escape(text)}</p>'

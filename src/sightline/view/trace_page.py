"""The self-contained page of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sightline.common.atomic import write_atomically
from sightline.common.errors import CommandError
from sightline.reading.traced import reading_of, shown
from sightline.tracing.choice import Layers
from sightline.view.page_size import check_page_size
from sightline.view.report import report_parts
from sightline.view.summary import Selection, summarize

if TYPE_CHECKING:
    from sightline.tracing.calls import Calls


def write_report(
    trace: Calls,
    path: Path,
    *,
    title: str | None,
    layers: Layers | None,
    tokens: Sequence[str] | Sequence[Sequence[str]] | None,
    batch: int,
    unverified: bool,
) -> int:
    """Writes the page of a trace; see ``Calls.report``."""
    try:
        calls, _ = shown(trace, layers, unverified)
        check_page_size([call.matrix for call in calls])  # before anything of it is copied
        reading = reading_of(trace, title, layers, tokens, batch, unverified)
        return write_atomically(path, report_parts(summarize(reading, Selection())))
    except CommandError as error:
        raise ValueError(f"report: {error}") from None

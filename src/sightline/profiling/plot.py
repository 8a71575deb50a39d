"""The picture: for each measure a map of all layers and heads."""

from __future__ import annotations

import importlib.util
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from sightline.common.atomic import check_writable, replacing
from sightline.common.errors import CommandError
from sightline.profiling.requirement import INSTALL
from sightline.profiling.statistics import Statistic

SUFFIXES = (".png", ".svg", ".pdf")
_COLUMNS = 4
_ABSENT = "#e4e4e4"


def check_plot(path: Path) -> None:
    """Raises early if nothing can be drawn to a file of this name.

    Raises:
        CommandError: for another suffix, a place that cannot be written, or without matplotlib.
    """
    if path.suffix not in SUFFIXES:
        raise CommandError(f"cannot write {path}: the plot's name must end in {', '.join(SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise CommandError(f"a plot needs matplotlib: {INSTALL}")
    check_writable(path)


class Panel(NamedTuple):
    """One map.

    Attributes:
        statistic: what it shows.
        values: [L,H], NaN where there is no number.
        stacks: the stacks of layers in it, from the top: name and number of layers.
    """

    statistic: Statistic
    values: Tensor
    stacks: list[tuple[str, int]]


def write_plot(path: Path, heading: str, panels: Sequence[Panel]) -> None:
    """Draws the panels under a heading, four in a row.

    Raises:
        CommandError: as :func:`check_plot`; if there are no panels; or if the file cannot be written.
    """
    check_plot(path)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not panels:
        raise CommandError(f"cannot draw {path}: the profile is empty")
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width, height = _panel_size(max(panel.values.shape for panel in panels))
    figure = Figure(figsize=(columns * width, rows * height + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(heading, fontsize=11, x=0.01, ha="left")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, panel in zip(axes, panels, strict=False):
        _draw(axis, panel)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    # Without a salt the ids of elements in an SVG are random.
    with matplotlib.rc_context({"svg.hashsalt": "sightline"}):
        _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    # Without dates, so that the same profile gives the same file.
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
    try:
        with replacing(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150, metadata=metadata)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from None


def _panel_size(shape: tuple[int, ...]) -> tuple[float, float]:
    """Width and height in inches of a map [L,H] with its title, caveat and colour bar."""
    layers, heads = shape
    cell = min(0.42, max(0.09, 3.2 / max(layers, heads)))
    return max(3.3, heads * cell + 1.2), max(0.9, layers * cell) + 1.25


def _draw(axis: Any, panel: Panel) -> None:
    from matplotlib import colormaps

    statistic, values, stacks = panel
    low, high = _ends(statistic, values)
    image = axis.imshow(
        values.masked_fill(~values.isfinite(), math.nan).numpy(),
        cmap=colormaps["viridis"].with_extremes(bad=_ABSENT),
        vmin=low,
        vmax=high,
        aspect="auto",
        interpolation="nearest",
    )
    axis.set_title(statistic.title, loc="left", fontsize=10)
    axis.set_xlabel("head", fontsize=8)
    axis.set_ylabel("layer", fontsize=8)
    _ticks(axis, values.shape[1], stacks)
    for row, column in (~values.isfinite()).nonzero().tolist():
        axis.text(column, row, "×", ha="center", va="center", fontsize=5, color="#888888")
    _colour_bar(axis, image, statistic.unit, tall=values.shape[0] / values.shape[1])
    caveat = "\n".join(textwrap.wrap(statistic.caveat, 58))
    axis.annotate(
        caveat, (0, 0), (0, -30), xycoords="axes fraction", textcoords="offset points",
        va="top", fontsize=5.5, color="#666666",
    )  # fmt: skip
    for side in axis.spines.values():
        side.set_visible(False)


def _colour_bar(axis: Any, image: Any, unit: str, tall: float) -> None:
    bar = axis.figure.colorbar(image, ax=axis, fraction=0.05, pad=0.02, aspect=20 * max(1, tall))
    bar.set_label(unit, fontsize=7)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def _ends(statistic: Statistic, values: Tensor) -> tuple[float, float]:
    """The colour scale's ends: those of the measure's range where finite, else those of the data."""
    low, high = statistic.range
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    known = values[values.isfinite()]
    least, most = (float(known.min()), float(known.max())) if known.numel() else (0.0, 1.0)
    least = low if math.isfinite(low) else least
    return least, most if most > least else least + 1.0


def _ticks(axis: Any, heads: int, stacks: list[tuple[str, int]]) -> None:
    """Some head numbers; some layer numbers of each stack, with a line between stacks."""
    axis.set_xticks(range(0, heads, _step(heads)))
    places: list[int] = []
    labels: list[str] = []
    first = 0
    step = _step(sum(count for _, count in stacks))
    for name, count in stacks:
        for layer in range(0, count, step):
            places.append(first + layer)
            several = len(stacks) > 1 and layer == 0
            labels.append(f"{name} {layer}" if several else str(layer))
        if first:
            axis.axhline(first - 0.5, color="white", linewidth=2)
        first += count
    axis.set_yticks(places, labels)
    axis.tick_params(labelsize=7, length=2)


def _step(count: int) -> int:
    return next(step for step in (1, 2, 4, 8, 16, 32, 64) if count <= 12 * step or step == 64)

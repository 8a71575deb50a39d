"""The picture: for each measure a map of all layers and heads."""

from __future__ import annotations

import importlib.util
import math
import textwrap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sightline.common.atomic import check_writable, replacing
from sightline.common.errors import CommandError
from sightline.profiling.statistics import STATISTICS, Statistic
from sightline.profiling.table import INSTALL, Profile

SUFFIXES = (".png", ".svg", ".pdf")
_COLUMNS = 4
_ABSENT = "#e4e4e4"


def check_plot(path: Path) -> None:
    """Refuses early what cannot be drawn.

    Raises:
        CommandError: another suffix, a place that cannot be written, or no matplotlib.
    """
    if path.suffix not in SUFFIXES:
        raise CommandError(f"cannot write {path}: the plot's name must end in {', '.join(SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise CommandError(f"a plot needs matplotlib: {INSTALL}")
    check_writable(path)


def write_plot(path: Path, profile: Profile) -> None:
    """Draws the means; see :meth:`Profile.plot`."""
    check_plot(path)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    maps = {name: _stacked(profile, name) for name in profile.measures}
    if not maps:
        raise CommandError(f"cannot draw {path}: the profile is empty")
    columns = min(_COLUMNS, len(maps))
    rows = math.ceil(len(maps) / columns)
    width, height = _panel(max(one.shape for one, _ in maps.values()))
    figure = Figure(figsize=(columns * width, rows * height + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(_heading(profile), fontsize=11, x=0.01, ha="left")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, (name, (values, stacks)) in zip(axes, maps.items(), strict=False):
        _draw(axis, STATISTICS[name], values, stacks)
    for axis in axes[len(maps) :]:
        axis.set_axis_off()
    # Names of elements in an SVG are drawn at random unless salted.
    with matplotlib.rc_context({"svg.hashsalt": "sightline"}):
        _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    # No dates: the same profile gives the same file.
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
    try:
        with replacing(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150, metadata=metadata)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from None


def _stacked(profile: Profile, measure: str) -> tuple[Tensor, list[tuple[str, int]]]:
    """All stacks' means below each other, [L,H], and each stack's name and number of layers."""
    names = [s for s in profile.stacks if any(r.stack == s and r.measure == measure for r in profile.rows)]
    maps = [profile.values(measure, stack=name) for name in names]
    heads = max(one.shape[1] for one in maps)
    padded = [torch.nn.functional.pad(one, (0, heads - one.shape[1]), value=math.nan) for one in maps]
    return torch.cat(padded), [(name, one.shape[0]) for name, one in zip(names, maps, strict=True)]


def _panel(shape: tuple[int, ...]) -> tuple[float, float]:
    """Inches for a map of so many layers and heads, with its title, caveat and colour bar."""
    layers, heads = shape
    cell = min(0.42, max(0.09, 3.2 / max(layers, heads)))
    return max(3.3, heads * cell + 1.2), max(0.9, layers * cell) + 1.25


def _heading(profile: Profile) -> str:
    parts = [str(profile.info.get("model", "head statistics"))]
    if "documents" in profile.info:
        parts.append(f"{profile.info['documents']:,} documents, {profile.info['tokens']:,} tokens")
    return ": means over ".join(parts)


def _draw(axis: Any, statistic: Statistic, values: Tensor, stacks: list[tuple[str, int]]) -> None:
    from matplotlib import colormaps

    tall = values.shape[0] / values.shape[1]
    colours = colormaps["viridis"].with_extremes(bad=_ABSENT)
    low, high = _ends(statistic, values)
    image = axis.imshow(
        values.masked_fill(~values.isfinite(), math.nan).numpy(),
        cmap=colours,
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
    bar = axis.figure.colorbar(image, ax=axis, fraction=0.05, pad=0.02, aspect=20 * max(1, tall))
    bar.set_label(statistic.unit, fontsize=7)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    caveat = "\n".join(textwrap.wrap(statistic.caveat, 58))
    axis.annotate(
        caveat, (0, 0), (0, -30), xycoords="axes fraction", textcoords="offset points",
        va="top", fontsize=5.5, color="#666666",
    )  # fmt: skip
    for side in axis.spines.values():
        side.set_visible(False)


def _ends(statistic: Statistic, values: Tensor) -> tuple[float, float]:
    """The colour scale: the measure's own range where it has one, else from the data, from 0 where it may."""
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
    places, labels, first = [], [], 0
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

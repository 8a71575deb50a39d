"""The picture of effects."""

from __future__ import annotations

import importlib.util
import textwrap
from pathlib import Path
from typing import Any

from torch import Tensor

from sightline.common.atomic import check_writable, replacing
from sightline.common.errors import CommandError

SUFFIXES = (".png", ".svg", ".pdf")
#: How many bars there are at most.
BARS = 40
_ABSENT = "#e4e4e4"


def check_picture(path: Path) -> None:
    """Raises early if nothing can be drawn to a file of this name."""
    if path.suffix not in SUFFIXES:
        raise CommandError(f"cannot write {path}: the picture's name must end in {', '.join(SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise CommandError('a picture needs matplotlib: pip install "sightline[profile]"')
    check_writable(path)


def draw(values: Tensor, names: list[str], title: str, about: str, path: Path | None) -> Any:
    """A heat map of [L,H], bars of [N], written to ``path`` where there is one.

    Args:
        values: what is drawn.
        names: of its rows.
        title: above it.
        about: what changes.
        path: the file.
    """
    if path is not None:
        check_picture(path)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    numbers, rows = values.numpy(), range(len(names))
    beside = 0.07 * max(map(len, names), default=0)  # inches that the names take
    width = max(5.0, beside + 6.0 if values.dim() == 1 else beside + 1.4 + 0.4 * values.shape[1])
    if values.dim() == 2:
        largest = float(values.nan_to_num(0).abs().max()) or 1.0
        figure.set_size_inches(width, max(2.4, 1.4 + 0.4 * len(names)))
        colours = matplotlib.colormaps["RdBu"].with_extremes(bad=_ABSENT)
        image = axes.imshow(numbers, cmap=colours, vmin=-largest, vmax=largest, aspect="equal")
        figure.colorbar(image, label="change")
        axes.set(xlabel="head", xticks=range(values.shape[1]), yticks=rows)
    else:
        figure.set_size_inches(width, 1.4 + 0.22 * len(names))
        axes.barh(rows, numbers, color=["#b2182b" if value < 0 else "#2166ac" for value in numbers])
        axes.set(xlabel="change", yticks=rows)
        axes.invert_yaxis()
        axes.axvline(0, color="black", linewidth=0.6)
    axes.set_yticklabels(names, fontsize=7)
    above = "\n".join([title, *textwrap.wrap(f"change of the {about}", int(width * 14))])
    figure.suptitle(above, fontsize=9)
    if path is not None:
        with replacing(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150)
    return figure

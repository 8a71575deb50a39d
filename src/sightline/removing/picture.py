"""The picture of effects."""

from __future__ import annotations

import importlib.util
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
    if values.dim() == 2:
        largest = float(values.nan_to_num(0).abs().max()) or 1.0
        figure.set_size_inches(1.6 + 0.4 * values.shape[1], 1.4 + 0.34 * len(names))
        colours = matplotlib.colormaps["RdBu"].with_extremes(bad=_ABSENT)
        image = axes.imshow(numbers, cmap=colours, vmin=-largest, vmax=largest, aspect="auto")
        figure.colorbar(image, label=f"change of {about}")
        axes.set(xlabel="head", xticks=range(values.shape[1]), yticks=rows)
    else:
        figure.set_size_inches(6, 1.2 + 0.22 * len(names))
        axes.barh(rows, numbers, color=["#b2182b" if value < 0 else "#2166ac" for value in numbers])
        axes.set(xlabel=f"change of {about}", yticks=rows)
        axes.invert_yaxis()
        axes.axvline(0, color="black", linewidth=0.6)
    axes.set_yticklabels(names, fontsize=7)
    axes.set_title(title, fontsize=10)
    if path is not None:
        with replacing(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150)
    return figure

"""The picture of effects."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sightline.common.atomic import check_writable, replacing
from sightline.common.errors import CommandError

if TYPE_CHECKING:
    from sightline.interventions.result import Effects

SUFFIXES = (".png", ".svg", ".pdf")
_BARS = 40
_ABSENT = "#e4e4e4"


def check_picture(path: Path) -> None:
    """Raises early if nothing can be drawn to a file of this name."""
    if path.suffix not in SUFFIXES:
        raise CommandError(f"cannot write {path}: the picture's name must end in {', '.join(SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise CommandError('a picture needs matplotlib: pip install "sightline[plot]"')
    check_writable(path)


def draw(effects: Effects, path: Path | None) -> Any:
    """A figure, written to ``path`` where there is one."""
    if path is not None:
        check_picture(path)
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    values = effects.values
    largest = float(values.nan_to_num(0).abs().max()) or 1.0
    if effects.of == "heads":
        figure.set_size_inches(1.6 + 0.4 * values.shape[1], 1.4 + 0.34 * values.shape[0])
        colours = matplotlib.colormaps["RdBu"].with_extremes(bad=_ABSENT)
        image = axes.imshow(values.numpy(), cmap=colours, vmin=-largest, vmax=largest, aspect="auto")
        figure.colorbar(image, label=f"change of {effects.about}")
        axes.set(xlabel="head", xticks=range(values.shape[1]), yticks=range(values.shape[0]))
        axes.set_yticklabels(effects.layers, fontsize=7)
    else:
        places = list(range(len(values))) if len(values) <= _BARS else None
        kept = torch.tensor(places if places is not None else [p for (p,) in effects.order()[:_BARS]])
        figure.set_size_inches(6, 1.2 + 0.22 * len(kept))
        shades = ["#b2182b" if values[place] < 0 else "#2166ac" for place in kept]
        axes.barh(range(len(kept)), values[kept].numpy(), color=shades)
        axes.set(xlabel=f"change of {effects.about}", yticks=range(len(kept)))
        axes.set_yticklabels([effects.name_of((int(place),)) for place in kept], fontsize=8)
        axes.invert_yaxis()
        axes.axvline(0, color="black", linewidth=0.6)
    axes.set_title(f"what removing {effects.of} changes", fontsize=10)
    if path is not None:
        with replacing(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150)
    return figure

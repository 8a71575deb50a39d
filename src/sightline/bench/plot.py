"""A picture: for each case a group of bars, one per contender, as shares of the measured peak."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sightline.bench.report import BenchReport
from sightline.bench.session import OURS, Row
from sightline.common.atomic import check_writable, replacing
from sightline.common.errors import CommandError

SECTIONS = ("forward", "backward")
SUFFIXES = (".svg", ".png", ".pdf")

# Okabe and Ito's colours, which people with any colour vision can tell apart, and hatches.
_LOOKS = {
    "sightline": ("#0072B2", ""),
    "sdpa": ("#E69F00", ""),
    "eager": ("#999999", ""),
    "flex": ("#CC79A7", ""),
    "ort-mha": ("#009E73", ""),
    "ort-attention": ("#009E73", "////"),
    "openvino": ("#D55E00", ""),
    "jax": ("#56B4E9", ""),
}


def check_plot(path: Path, sections: Sequence[str]) -> None:
    """Raises before anything is measured if the picture cannot be drawn.

    Raises:
        CommandError: for an unknown kind of file, without matplotlib, or if no chosen section has bars.
    """
    if path.suffix not in SUFFIXES:
        raise CommandError(f"--plot {path}: the name must end in {', '.join(SUFFIXES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise CommandError('--plot needs matplotlib: pip install "sightline[bench]"')
    if not set(SECTIONS) & set(sections):
        raise CommandError(f"--plot shows {' and '.join(SECTIONS)}: choose one of them with --only, or all")
    check_writable(path)


def write_plot(path: Path, report: BenchReport) -> bool:
    """Draws what was measured; returns False if no case has a share of a peak."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = _panels(report)
    if not panels:
        return False
    names = [n for n in _LOOKS if any(n in shares for rows in panels.values() for _, shares in rows)]
    bar = 0.13
    heights = [sum(bar * len(shares) + 0.16 for _, shares in rows) + 0.5 for rows in panels.values()]
    figure = Figure(figsize=(9, sum(heights) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        _draw(axis, title, rows, names)
    handles = [_patch(name) for name in names]
    titles = {name: peer["title"] for name, peer in report.peers().items()}
    figure.legend(
        handles,
        [titles.get(n, n) for n in names],
        loc="outside upper center",
        ncols=4,
        frameon=False,
        fontsize=8,
    )
    _save(figure, path)
    return True


def _panels(report: BenchReport) -> dict[str, list[tuple[str, dict[str, float]]]]:
    """A panel for each section, dtype and peak: its cases with every contender's share of that peak."""
    panels: dict[str, list[tuple[str, dict[str, float]]]] = {}
    for section in SECTIONS:
        for row in report.rows(section):
            dot = section == "forward" and row["dtype"] == "bfloat16" and "dot_peak" in row
            peak = row.get("dot_peak" if dot else "fma_peak")
            if not peak:
                continue
            what = f"{report.sections[section]['title']}, {row['dtype']}"
            title = f"{what}: share of the {'bf16' if dot else 'FMA'} peak"
            panels.setdefault(title, []).append((row["case"], _shares(row, peak)))
    return panels


def _shares(row: Row, peak: float) -> dict[str, float]:
    contenders: Mapping[str, Any] = row["contenders"]
    return {
        name: row["flops"] / one["ms"] / 1e6 / peak
        for name, one in contenders.items()
        if name in _LOOKS and "ms" in one
    }


def _draw(axis: Any, title: str, rows: list[tuple[str, dict[str, float]]], names: list[str]) -> None:
    place, ticks = 0.0, []
    for _, shares in rows:
        shown = [name for name in names if name in shares]
        ticks.append(place + (len(shown) - 1) / 2)
        for name in shown:
            colour, hatch = _LOOKS[name]
            axis.barh(
                place, shares[name], height=0.9, color=colour, hatch=hatch, edgecolor="white", linewidth=0.4
            )
            weight = "bold" if name == OURS else "normal"
            axis.text(
                shares[name] + 0.005,
                place,
                f"{100 * shares[name]:.0f}",
                va="center",
                fontsize=6.5,
                weight=weight,
            )
            place += 1
        place += 1.2
    axis.set_yticks(ticks, [case for case, _ in rows], fontsize=8)
    axis.set_ylim(place - 1.2 - 0.2, -0.8)
    # Bars of dot-product instructions may exceed the multiply-add peak.
    axis.set_xlim(0, max(1.0, 1.08 * max(share for _, shares in rows for share in shares.values())))
    axis.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axis.tick_params(axis="x", labelsize=8)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.set_title(title, loc="left", fontsize=10)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)


def _patch(name: str) -> Any:
    from matplotlib.patches import Patch

    colour, hatch = _LOOKS[name]
    return Patch(facecolor=colour, hatch=hatch, edgecolor="white")


def _save(figure: Any, path: Path) -> None:
    """Writes the file, whole or not at all."""
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)

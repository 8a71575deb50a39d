"""The summary of a text in a terminal: shaded tokens, two small maps of heads, and the top pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from sightline.measure.sources import CAVEAT
from sightline.view.plain import pairs_scope, short, special_remark
from sightline.view.shades import background, style
from sightline.view.summary import Summary

_SHORT = 120  # texts of up to this many units are shown whole
_AROUND = 12  # units shown on each side of what matters in a longer one


def render(summary: Summary, width: int, colours: bool = True) -> RenderableType:
    """Everything that is shown, for a terminal ``width`` characters wide, with 256 or more colours or not."""
    return Group(
        _heading(summary),
        Text(),
        _shaded_text(summary, colours),
        Text(),
        _keys(summary, colours),
        Text(),
        *_maps(summary, width, colours),
        Text(),
        _pairs(summary),
        Text(),
        Text(CAVEAT, style="italic dim"),
    )


def _heading(summary: Summary) -> RenderableType:
    units, choice = summary.units, summary.choice
    lines = [
        Text.assemble((summary.reading.model, "bold"), f"  {units.name}, {len(units.queries)} {units.unit}s"),
        Text.assemble(
            (f"layer {choice.layer} head {choice.head}", "bold"), (f"  {choice.head_reason}", "dim")
        ),
        Text.assemble(
            (f"query {short(units.queries[choice.query].text)} #{choice.query}", "bold"),
            (f"  {choice.query_reason}", "dim"),
        ),
        Text(special_remark(summary), style="dim"),
    ]
    lines[1:1] = [Text(notice, style="yellow") for notice in summary.reading.notices]
    return Group(*lines)


def _shaded_text(summary: Summary, colours: bool) -> Text:
    """The keys, shaded by what the query gives them; the query itself marked."""
    units, choice = summary.units, summary.choice
    shown = _near(summary)
    most = max((float(summary.row[key]) for key in summary.keys), default=0.0)
    text = Text()
    last = -1
    for key in shown:
        if key != last + 1:
            text.append(f" … {key - last - 1} … ", style="dim")
        elif key and units.keys[key].space:
            text.append(" ")
        token = units.keys[key]
        look = _style(float(summary.row[key]), most, token.special and not summary.selection.special, colours)
        if units.is_self and key == choice.query:
            look += Style(bold=True, underline=True)
        text.append(short(token.text, 40), style=look)
        last = key
    if last < len(units.keys) - 1:
        text.append(f" … {len(units.keys) - 1 - last} more", style="dim")
    if not units.is_self:
        query = short(units.queries[choice.query].text)
        text.append(f"\n(keys, shaded by what the query {query} gives them)", "dim")
    return text


def _style(weight: float, most: float, dim: bool, colours: bool) -> Style:
    if dim or most <= 0:
        return Style(dim=dim)
    share = min(1.0, math.sqrt(weight / most))  # lightness: a quarter of the maximum still shows as a half
    if share < 0.08:
        return Style()
    return style(share, colours)


def _near(summary: Summary) -> list[int]:
    """Which keys to show: all of a short text; of a long one, what is around the query and its top keys."""
    count = len(summary.units.keys)
    if count <= _SHORT:
        return list(range(count))
    shown: set[int] = set()
    if summary.units.is_self:
        shown.update(range(summary.choice.query - _AROUND, summary.choice.query + _AROUND + 1))
    for key in summary.keys:
        shown.update(range(key - _AROUND // 4, key + _AROUND // 4 + 1))
    return sorted(key for key in shown if 0 <= key < count)


def _keys(summary: Summary, colours: bool) -> Table:
    choice = summary.choice
    entropy = float(summary.readouts[choice.layer].entropy[choice.head, choice.query])
    query = short(summary.units.queries[choice.query].text)
    title = f"{query} looks at (row entropy {entropy:.3f} nats)"
    table = Table(box=None, padding=(0, 1), title=title, title_justify="left")
    table.add_column("weight", justify="right")
    table.add_column("key")
    table.add_column("")
    most = max((float(summary.row[key]) for key in summary.keys), default=1.0)
    for key in summary.keys:
        weight = float(summary.row[key])
        colour = background(math.sqrt(weight / most))
        bar = Text("█" * max(1, round(24 * weight / most)), style=Style(color=colour) if colours else Style())
        table.add_row(f"{weight:.4f}", f"{short(summary.units.keys[key].text)} #{key}", bar)
    return table


def _maps(summary: Summary, width: int, colours: bool) -> list[RenderableType]:
    """Heads by entropy and by distance, beside each other where the terminal is wide enough."""
    maps: list[RenderableType] = [_map("entropy (nats)", summary.entropy, summary, colours)]
    if summary.distance is not None:
        maps.append(_map(f"distance ({summary.units.unit}s)", summary.distance, summary, colours))
    if len(maps) == 2 and width >= 2 * (5 * len(summary.entropy[0]) + 8):
        grid = Table.grid(padding=(0, 3))
        grid.add_row(*maps)
        return [grid]
    return maps if len(maps) == 1 else [maps[0], Text(), maps[1]]


def _map(title: str, values: Sequence[Sequence[float]], summary: Summary, colours: bool) -> Table:
    most = max((value for row in values for value in row), default=0.0) or 1.0
    heading = f"heads by {title}, mean over queries"
    table = Table(box=None, padding=(0, 0), title=heading, title_justify="left")
    table.add_column("layer ", justify="right", style="dim")
    for head in range(max(map(len, values))):
        table.add_column(f"h{head}", justify="right", width=5)
    for layer, row in enumerate(values):
        cells = []
        for head, value in enumerate(row):
            share = value / most
            look = style(share, True) if colours else Style()
            if (layer, head) == (summary.choice.layer, summary.choice.head):
                look += Style(bold=True, underline=True, reverse=not colours)
            digits = 2 if value < 10 else 1 if value < 100 else 0
            cells.append(Text(f"{value:5.{digits}f}", style=look))
        table.add_row(f"{layer} ", *cells)
    return table


def _pairs(summary: Summary) -> Table:
    title = f"top pairs, {pairs_scope(summary)}"
    table = Table(box=None, padding=(0, 1), title=title, title_justify="left")
    for name in ("weight", "layer", "head"):
        table.add_column(name, justify="right")
    table.add_column("query → key")
    for pair in summary.pairs:
        query, key = summary.units.queries[pair.query], summary.units.keys[pair.key]
        where = f"{short(query.text)} #{pair.query} → {short(key.text)} #{pair.key}"
        table.add_row(f"{pair.weight:.4f}", str(pair.layer), str(pair.head), where)
    return table

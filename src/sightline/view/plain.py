"""The summary of a text as plain lines, for pipes, logs and screen readers. No colour, no escapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sightline.measure.sources import CAVEAT
from sightline.reading.tokens import Token
from sightline.view.summary import Summary

_WIDTH = 18  # longest token text in a column


def plain_lines(summary: Summary) -> Iterator[str]:
    """Every number of the terminal view, one fact per line, columns at fixed places."""
    yield from _heading(summary)
    yield ""
    yield from _query(summary)
    yield ""
    yield from head_map("entropy (nats, mean over queries)", summary.entropy)
    yield ""
    if summary.distance is None:
        yield "distance: not defined between two texts"
    else:
        yield from head_map(f"distance ({summary.units.unit}s, mean over queries)", summary.distance)
    yield ""
    yield from _pairs(summary)
    yield ""
    yield CAVEAT


def short(text: str, width: int = _WIDTH) -> str:
    """``text`` on one line, at most ``width`` characters, without control characters."""
    clean = "".join(character if character.isprintable() else "·" for character in text)
    return clean if len(clean) <= width else clean[: width - 1] + "…"


def label(token: Token, width: int = _WIDTH) -> str:
    """A token as ``text(#index)``."""
    return f"{short(token.text, width)}(#{token.index})"


def special_remark(summary: Summary) -> str:
    """The share of the chosen head's weight on special tokens, and whether those are shown."""
    names = list(dict.fromkeys(token.text for token in summary.units.keys if token.special))
    if not names:
        return "special tokens: none"
    shown = ", ".join(short(name) for name in names[:4]) + (", …" if len(names) > 4 else "")
    state = "included" if summary.selection.special else "left out below; --special includes them"
    return f"special tokens ({shown}) take {summary.special_share:.1%} of this head's weight; {state}"


def pairs_scope(summary: Summary) -> str:
    """The heads among which the top pairs were searched."""
    layer, head = summary.selection.layer, summary.selection.head
    if layer is not None and head is not None:
        return f"layer {summary.choice.layer} head {summary.choice.head}"
    if layer is not None:
        return f"layer {summary.choice.layer}, every head"
    return "every layer and head" if head is None else f"every layer, head {summary.choice.head}"


def head_map(title: str, values: Sequence[Sequence[float]]) -> Iterator[str]:
    """A table of layers x heads."""
    heads = max(len(row) for row in values)
    yield title
    yield "layer " + "".join(f"{f'h{head}':>9}" for head in range(heads))
    for layer, row in enumerate(values):
        yield f"{layer:>5} " + "".join(f"{value:>9.3f}" for value in row)


def _heading(summary: Summary) -> Iterator[str]:
    units, choice = summary.units, summary.choice
    yield f"model    {summary.reading.model}"
    size = f"{len(units.queries)} queries, {len(units.keys)} keys ({units.unit}s)"
    yield f"section  {units.name}: {len(units.layers)} layers, {units.layers[0].heads} heads, {size}"
    for notice in summary.reading.notices:
        yield f"note     {notice}"
    yield f"head     layer {choice.layer} head {choice.head} ({choice.head_reason})"
    yield f"query    {label(units.queries[choice.query])} ({choice.query_reason})"
    yield f"special  {special_remark(summary)}"


def _query(summary: Summary) -> Iterator[str]:
    choice, readout = summary.choice, summary.readouts[summary.choice.layer]
    entropy = float(readout.entropy[choice.head, choice.query])
    query = label(summary.units.queries[choice.query])
    yield f"keys that {query} looks at most; row entropy {entropy:.4f} nats"
    yield f"{'rank':>4} {'weight':>8} {'index':>6}  key"
    for rank, key in enumerate(summary.keys, 1):
        yield f"{rank:>4} {float(summary.row[key]):>8.4f} {key:>6}  {short(summary.units.keys[key].text)}"


def _pairs(summary: Summary) -> Iterator[str]:
    units = summary.units
    yield f"top pairs ({pairs_scope(summary)})"
    yield f"{'weight':>8} {'layer':>5} {'head':>4}  {'query':<{_WIDTH + 8}} key"
    if not summary.pairs:
        yield f"none between {units.unit}s that are not special"
    for pair in summary.pairs:
        query, key = label(units.queries[pair.query]), label(units.keys[pair.key])
        yield f"{pair.weight:>8.4f} {pair.layer:>5} {pair.head:>4}  {query:<{_WIDTH + 8}} {key}"

"""The self-contained page: queries, keys and what else the weights follow from, in one HTML file."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import torch

from sightline.reading.reading import Reading, Section
from sightline.tracing.media import Picture
from sightline.view.about import Start, about, page_tokens, side_lists
from sightline.view.carried import carry, fixed_vectors
from sightline.view.labels import labels_of
from sightline.view.layers import LayerReadouts, TokenLayer, by_token
from sightline.view.lens import carried_lens, why_not_carried
from sightline.view.modules import inline, names, source
from sightline.view.summary import Summary
from sightline.view.tensors import TensorStore

FORMAT = "sightline.page/2"

_THUMBNAIL = 24  # cells along each side of a head's picture in the atlas
_SLOT = re.compile(r"\{\{(\w+)\}\}")
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "worker-src blob:; base-uri 'none'; form-action 'none'"
)


VALUE_LIMIT = 32 << 20
"""Bytes of values and gradients, 16 bits each, that a page takes at most."""


def report_parts(summary: Summary, value_limit: int | None = None, more: Iterable[str] = ()) -> Iterator[str]:
    """The page in pieces, ready to be written one after another.

    Args:
        value_limit: bytes of values that it takes; without them the steps end at the weights. Default:
            ``VALUE_LIMIT``.
        more: elements that the page carries besides.

    Raises:
        InputError: a layer's mask or bias cannot be carried in the page.
    """
    store = TensorStore()
    meta = page_meta(summary, store, VALUE_LIMIT if value_limit is None else value_limit)
    title = f"{meta['about']['title']} · Sightline"
    yield from filled(title, inline("main.js"), chain(_data(meta, store), more))


def filled(title: str, script: str, data: Iterable[str] = ()) -> Iterator[str]:
    """The page with everything in it, in pieces: what it carries, and what it runs."""
    fill: dict[str, Iterable[str] | str] = {
        "csp": f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        "title": html.escape(title),
        "styles": "".join(f"<style>\n{source(name)}</style>\n" for name in names(".css")),
        "data": data,
        "script": f'<script type="module">\n{script}</script>',
    }
    # Odd pieces are slots. The parts go in as they are, so a text that looks like a slot stays a text.
    for at, piece in enumerate(_SLOT.split(source("page.html"))):
        value = fill[piece] if at % 2 else piece
        if isinstance(value, str):
            yield value
        else:
            yield from value


def _data(meta: dict[str, Any], store: TensorStore) -> Iterator[str]:
    yield f'<script type="application/json" id="sightline-data">{script_json(meta)}</script>\n'
    yield from store.parts()
    yield f'<script type="text/plain" id="sightline-worker">\n{inline("compute/worker.js")}</script>\n'


def page_meta(summary: Summary, store: TensorStore, value_limit: int) -> dict[str, Any]:
    """What the page knows besides the tensors that it puts into ``store``; source/carried.js reads it."""
    reading, choice = summary.reading, summary.choice
    query = summary.units.queries[choice.query].index if summary.units.unit == "token" else None
    start = Start(summary.units.name, choice.layer, choice.head, query, summary.selection.words)
    described = about(reading, "page", _clip((*reading.texts, reading.model)[0], 60), start)
    extras = _extras(reading, value_limit)
    layers = [layer for section in reading.sections for layer in _layers(section, summary, store, extras)]
    if not extras.values:
        described["notices"].append(
            "values are left out of this page for its size: the steps end at the weights"
        )
        for layer in (layer for section in described["sections"] for layer in section["layers"]):
            layer["hasValues"] = False
    if not extras.gradients and any(section.gradients for section in reading.sections):
        described["flows"] = [flow for flow in described["flows"] if flow["name"] != "relevance"]
        described["notices"].append("gradients are left out of this page for its size: it shows no relevance")
    return {
        "format": FORMAT,
        "about": described,
        "tokens": {str(at): page_tokens(side) for at, side in enumerate(side_lists(reading))},
        "layers": layers,
        "medium": _medium(reading, store),
        "lens": _lens(reading, described, store),
    }


def script_json(value: Any) -> str:
    """JSON that is safe inside a script element, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _lens(reading: Reading, described: dict[str, Any], store: TensorStore) -> dict[str, Any] | None:
    """What positions say in words; where it is left out, the description says so."""
    if reading.lens is None:
        return None
    try:
        why_not = why_not_carried(reading.lens)
        if why_not is None:
            return carried_lens(reading.lens, store)
    except ValueError as error:
        why_not = str(error)
    described["lens"] = None
    described["notices"].append(why_not)
    return None


class _Extras(NamedTuple):
    """What a page stores besides queries and keys."""

    values: bool
    gradients: bool


def _extras(reading: Reading, limit: int) -> _Extras:
    """Values if they fit the limit, and gradients, which are useless without values, if both fit."""
    values = [matrix.problem.value for section in reading.sections for matrix in section.layers]
    gradients = [gradient for section in reading.sections for gradient in section.gradients]
    size, more = (sum(2 * x[0].numel() for x in each if x is not None) for each in (values, gradients))
    return _Extras(size <= limit, bool(gradients) and size + more <= limit)


def _layers(
    section: Section, summary: Summary, store: TensorStore, extras: _Extras
) -> Iterator[dict[str, Any]]:
    units = summary.units
    # What the summary has read already is not read again.
    known = summary.readouts if units.name == section.name and units.unit == "token" else None
    for at, layer in enumerate(by_token(section).layers):
        yield _layer(section, at, known[at] if known else layer.readouts(1), store, extras)


def _layer(
    section: Section, at: int, readout: LayerReadouts, store: TensorStore, extras: _Extras
) -> dict[str, Any]:
    matrix = section.layers[at]
    layer = carry(matrix, store, f"layer {at} ({section.name})", extras.values)
    _, _, queries, keys = matrix.shape
    pictures = matrix.pool(min(queries, _THUMBNAIL), min(keys, _THUMBNAIL))[0]
    layer["thumbnails"] = store.add(pictures.float(), "f2")
    layer["tensors"]["received"] = store.add(readout.received, "f4")
    if extras.gradients and section.gradients:
        layer["tensors"]["gradient"] = fixed_vectors(section.gradients[at][0].float(), store)
    layer["numbers"] = _numbers(section, at, readout)
    return layer


def _numbers(section: Section, at: int, readout: LayerReadouts) -> dict[str, Any]:
    """Means over all rows of each head ("previous": all that have a key before); labels of what heads do."""
    matrix = section.layers[at]
    _, heads, queries, keys = matrix.shape
    numbers: dict[str, Sequence[float | None]] = {
        "entropy": _means(readout.entropy),
        "max": _means(readout.weights[..., 0]),
        "first": _means(TokenLayer(matrix).column(0)),
    }
    labels: list[str | None] = [None] * heads
    if section.is_self:
        before, itself, _ = TokenLayer(matrix).nearby()
        numbers |= {
            "distance": _means(readout.distance),
            "itself": _means(itself),
            "previous": _means(before[:, min(1, queries - 1) :]),
        }
        if queries > 1:
            labels, induction = labels_of(section, at)
            numbers |= {} if induction is None else {"induction": induction}
    return {"rows": queries, "of": queries, "sampled": False, "heads": numbers, "labels": labels}


def _means(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.double().mean(1).tolist()]


def _medium(reading: Reading, store: TensorStore) -> dict[str, Any] | None:
    """The image as RGBA, as a canvas takes it, or the frames of the sound."""
    medium = reading.medium
    if medium is None:
        return None
    if isinstance(medium, Picture):
        opaque = torch.full((*medium.pixels.shape[:2], 1), 255, dtype=torch.uint8)
        return store.add(torch.cat([medium.pixels, opaque], 2), "u1")
    return store.add(medium.frames, "f4")


def _clip(text: str, most: int) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= most else one_line[: most - 1] + "…"

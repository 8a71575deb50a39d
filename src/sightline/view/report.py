"""The self-contained page: queries, keys and what else the weights follow from, in one HTML file."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import torch

from sightline.measure.sources import CAVEAT
from sightline.view.carried import carry
from sightline.view.layers import Readouts, by_token
from sightline.view.modules import inline, source
from sightline.view.reading import Reading, Section
from sightline.view.summary import Summary
from sightline.view.tensors import TensorStore
from sightline.view.tokens import Token, are_places

FORMAT = "sightline.page/1"

_THUMBNAIL = 24  # cells along each side of a head's picture in the atlas
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def report_parts(summary: Summary) -> Iterator[str]:
    """The page in pieces, ready to be written one after another.

    Raises:
        LookError: a layer's mask or bias cannot be carried in the page.
    """
    import sightline

    store = TensorStore()
    meta = page_meta(summary, store)
    reading = summary.reading
    fill: dict[str, Iterator[str] | str] = {
        "title": html.escape(f"{_clip((*reading.texts, reading.model)[0], 60)} · Sightline"),
        "style": source("style.css"),
        "about": html.escape(_about(summary)),
        "notices": "\n".join(f'<p class="notice">{html.escape(notice)}</p>' for notice in reading.notices),
        "caveat": html.escape(CAVEAT),
        "version": html.escape(sightline.__version__),
        "data": script_json(meta),
        "tensors": store.parts(),
        "worker": inline("worker.js"),
        "script": inline("main.js"),
    }
    # Odd pieces are slots. The parts go in as they are, so a text that looks like a slot stays a text.
    for at, piece in enumerate(_SLOT.split(source("page.html"))):
        value = fill[piece] if at % 2 else piece
        if isinstance(value, str):
            yield value
        else:
            yield from value


def page_meta(summary: Summary, store: TensorStore) -> dict[str, Any]:
    """What the page knows besides the tensors that it puts into ``store``."""
    choice = summary.choice
    return {
        "format": FORMAT,
        "model": summary.reading.model,
        "texts": list(summary.reading.texts),
        "choice": {
            "section": summary.units.name,
            "layer": choice.layer,
            "head": choice.head,
            "query": choice.query,
            "words": summary.wish.words,
        },
        "sections": [_section(section, summary, store) for section in summary.reading.sections],
    }


def script_json(value: Any) -> str:
    """JSON that is safe inside a script element, whatever texts it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _section(section: Section, summary: Summary, store: TensorStore) -> dict[str, Any]:
    units = summary.units
    # What the summary has read already is not read again.
    known = summary.readouts if units.name == section.name and units.unit == "token" else None
    layers = by_token(section).layers
    readouts = known or tuple(layer.readouts(1) for layer in layers)
    return {
        "name": section.name,
        "isSelf": section.is_self,
        "queries": _tokens(section.queries),
        "keys": None if section.is_self else _tokens(section.keys),
        "layers": [_layer(section, at, readout, store) for at, readout in enumerate(readouts)],
    }


def _layer(section: Section, at: int, readout: Readouts, store: TensorStore) -> dict[str, Any]:
    matrix = section.layers[at]
    layer = carry(matrix, store, f"layer {at} ({section.name})")
    _, _, queries, keys = matrix.shape
    pictures = matrix.pool(min(queries, _THUMBNAIL), min(keys, _THUMBNAIL))[0]
    layer["thumbnails"] = store.add(pictures.float(), "f2")
    layer["tensors"]["received"] = store.add(readout.received, "f4")
    layer["tensors"]["entropy"] = store.add(readout.entropy, "f4")
    layer["entropy"] = _means(readout.entropy)
    layer["distance"] = _means(readout.distance) if section.is_self else None
    return layer


def _means(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.6g}") for value in values.double().mean(1).tolist()]


def _tokens(tokens: tuple[Token, ...]) -> dict[str, Any]:
    return {
        "texts": [token.text for token in tokens],
        "words": [token.word for token in tokens],
        "special": [token.index for token in tokens if token.special],
        "glued": [token.index for token in tokens if not token.space],
        "places": are_places(tokens),
    }


def _about(summary: Summary) -> str:
    reading: Reading = summary.reading
    sizes = ", ".join(
        f"{section.name} {len(section.layers)} × {section.layers[0].shape[1]} heads"
        for section in reading.sections
    )
    keys = reading.sections[0].keys
    length = f"{len(keys)} {'positions' if are_places(keys) else 'tokens'}"
    texts = [_clip(" ".join(reading.texts), 80)] if reading.texts else []
    return " · ".join([reading.model, length, sizes, *texts])


def _clip(text: str, most: int) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= most else one_line[: most - 1] + "…"

"""The numbers of a reading as JSON, linear in the text: never an N x M matrix."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from sightline._version import __version__
from sightline.measure.sources import CAVEAT
from sightline.reading.tokens import Token
from sightline.view.layers import LayerReadouts
from sightline.view.summary import Summary

FORMAT = "sightline.look/1"


def json_parts(summary: Summary) -> Iterator[str]:
    """The file in pieces, one layer at a time, so that it is never whole in memory."""
    yield json.dumps(_head(summary), ensure_ascii=False, allow_nan=False)[:-1]
    yield ', "layers": [\n'
    for at, readout in enumerate(summary.readouts):
        yield (",\n" if at else "") + json.dumps(
            _layer(at, readout, summary), ensure_ascii=False, allow_nan=False
        )
    yield "\n]}\n"


def _head(summary: Summary) -> dict[str, Any]:
    units, choice = summary.units, summary.choice
    return {
        "format": FORMAT,
        "sightline": __version__,
        "caveat": CAVEAT,
        "model": summary.reading.model,
        "texts": list(summary.reading.texts),
        "notices": list(summary.reading.notices),
        "sections": [section.name for section in summary.reading.sections],
        "section": units.name,
        "unit": units.unit,
        "shape": {
            "layers": len(units.layers),
            "heads": units.layers[0].heads,
            "queries": len(units.queries),
            "keys": len(units.keys),
        },
        "queries": _tokens(units.queries),
        "keys": None if units.is_self else _tokens(units.keys),
        "choice": {
            "layer": choice.layer,
            "head": choice.head,
            "query": choice.query,
            "head_reason": choice.head_reason,
            "query_reason": choice.query_reason,
            "special_share": _number(summary.special_share),
            "weights": _numbers(summary.row),
            "top": [{"key": key, "weight": _number(float(summary.row[key]))} for key in summary.keys],
        },
        "special_included": summary.selection.special,
        "pairs": [
            {
                "query": pair.query,
                "key": pair.key,
                "weight": _number(pair.weight),
                "layer": pair.layer,
                "head": pair.head,
            }
            for pair in summary.pairs
        ],
    }


def _layer(at: int, readout: LayerReadouts, summary: Summary) -> dict[str, Any]:
    return {"layer": at, "heads": [_one_head(head, readout, summary) for head in range(len(readout.entropy))]}


def _one_head(head: int, readout: LayerReadouts, summary: Summary) -> dict[str, Any]:
    place = {
        "head": head,
        "entropy_mean": _number(float(readout.entropy[head].double().mean())),
        "distance_mean": None,
        "entropy": _numbers(readout.entropy[head]),
        "distance": None,
        "received": _numbers(readout.received[head]),
        # Special keys are included: these are each query's largest weights, on whichever keys.
        "topk": {
            "keys": readout.keys[head, :, : summary.selection.top].tolist(),
            "weights": [_numbers(row) for row in readout.weights[head, :, : summary.selection.top]],
        },
    }
    if summary.units.is_self:
        place["distance_mean"] = _number(float(readout.distance[head].double().mean()))
        place["distance"] = _numbers(readout.distance[head])
    return place


def _tokens(tokens: tuple[Token, ...]) -> list[dict[str, Any]]:
    return [{"index": token.index, "text": token.text, "special": token.special} for token in tokens]


def _number(value: float) -> float:
    # Seven digits are all that float32 holds; more would only double the size of the file.
    return float(f"{value:.7g}")


def _numbers(values: Tensor) -> list[float]:
    return [_number(value) for value in values.tolist()]

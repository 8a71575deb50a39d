"""What the explorer's page knows of a reading: everything but the numbers (types: web/source/types.js)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline._version import __version__
from sightline.measure.sources import CAVEAT
from sightline.reading.output import WROTE, Output
from sightline.reading.reading import Reading, Section
from sightline.reading.tokens import Token, are_places
from sightline.view.lens import lens_about
from sightline.view.pyramid import coarse_level, top_level

ROLLOUT = (
    "Rollout multiplies the attention of all layers, half of each kept in place for the residual: it "
    "follows where information may flow, and knows neither values nor MLPs (Abnar & Zuidema 2020)."
)

RELEVANCE = (
    "Relevance multiplies attention by the gradient of one output, layer by layer: what adds up to little "
    "may still decide, and negative evidence is cut off (Chefer 2021). It has no scale: colours end at the "
    "largest number besides the token's own, which holds the 1 that it starts with."
)


@dataclass(frozen=True)
class Start:
    """What the page shows first."""

    section: str
    layer: int = 0
    head: int = 0
    query: int | None = None
    words: bool = False


def about(reading: Reading, identity: str, title: str, start: Start | None = None) -> dict[str, Any]:
    """Describes a reading to the page: ``About`` of web/source/types.js.

    Args:
        identity: the reading's name in URLs.
        title: what people call it.
        start: what to show first. Default: the first head of ``Reading.section(None)``.
    """
    sides = side_lists(reading)
    shown = start or Start(reading.section(None).name)
    return {
        "id": identity,
        "title": title,
        "model": short_name(reading.model),
        "texts": [_clip(text, 400) for text in reading.texts if text],
        "output": None if reading.output is None else _output(reading.output),
        "notices": _notices(reading),
        "caveat": CAVEAT,
        "version": __version__,
        "sections": _sections(reading, sides),
        "start": vars(shown),
        "medium": None if reading.medium is None else reading.medium.about(),
        "flows": [flow for section in reading.sections for flow in _flows(section)],
        "lens": None if reading.lens is None else lens_about(reading.lens),
    }


def side_lists(reading: Reading) -> list[tuple[Token, ...]]:
    """The token lists of all sections, each once; a side's id is its place here."""
    sides: list[tuple[Token, ...]] = []
    for section in reading.sections:
        for side in (section.queries, section.keys):
            if not any(side is each for each in sides):
                sides.append(side)
    return sides


def first_call(reading: Reading, section: Section) -> int:
    """The call number of a section's first layer: layers are numbered through all sections."""
    before = reading.sections[: reading.sections.index(section)]
    return sum(len(each.layers) for each in before)


def page_tokens(tokens: Sequence[Token]) -> dict[str, Any]:
    """Tokens as the page takes them."""
    return {
        "texts": [token.text for token in tokens],
        "words": [token.word for token in tokens],
        "special": [token.special for token in tokens],
        "glued": [not token.space for token in tokens],
    }


def _output(output: Output) -> dict[str, Any]:
    """What came out, as the page takes it."""
    return {
        "kind": output.kind,
        "name": output.name,
        "text": output.text,
        "given": output.given,
        "after": output.after,
        "choices": [{"text": text, "probability": share} for text, share in output.choices],
    }


def _notices(reading: Reading) -> list[str]:
    """Without what the output tells."""
    told = reading.output is not None and not reading.output.given
    return [notice for notice in reading.notices if not (told and notice.startswith(WROTE))]


def _sections(reading: Reading, sides: list[tuple[Token, ...]]) -> list[dict[str, Any]]:
    def side(tokens: tuple[Token, ...]) -> dict[str, Any]:
        at = next(at for at, each in enumerate(sides) if each is tokens)
        return {"id": str(at), "count": len(tokens), "places": are_places(tokens)}

    def layers(section: Section) -> list[dict[str, Any]]:
        first = first_call(reading, section)
        return [_layer(section, at, first) for at in range(len(section.layers))]

    return [
        {
            "name": section.name,
            "isSelf": section.is_self,
            "isCausal": section.is_causal,
            "queries": side(section.queries),
            "keys": side(section.keys),
            "layers": layers(section),
        }
        for section in reading.sections
    ]


def _layer(section: Section, at: int, first: int) -> dict[str, Any]:
    matrix = section.layers[at]
    problem = matrix.problem
    _, heads, n, m = matrix.shape
    facts = section.facts_of(at)
    return {
        "call": first + at,
        "name": facts.name,
        "kind": "self" if section.is_self else "cross",
        "heads": heads,
        "n": n,
        "m": m,
        "offset": m - n if problem.offset is None else int(problem.offset.flatten()[0]),
        "width": problem.query.shape[3],
        "scale": float(problem.scale),
        "softcap": None if problem.softcap is None else float(problem.softcap),
        "verified": facts.verified,
        "reason": facts.reason,
        "hasValues": problem.value is not None,
        "top": top_level(n, m),
        "coarse": coarse_level(n, m),
    }


def _flows(section: Section) -> list[dict[str, str]]:
    """What can be followed through all layers of a section."""
    if not section.is_self or not all(facts.whole for facts in section.facts):
        return []
    caveats = {"rollout": ROLLOUT} | ({"relevance": RELEVANCE} if section.gradients else {})
    return [{"name": name, "section": section.name, "caveat": caveat} for name, caveat in caveats.items()]


def short_name(model: str) -> str:
    """A model's name; for a folder its last part, since the path to it is private."""
    return Path(model).name if Path(model).is_absolute() else model


def _clip(text: str, most: int) -> str:
    one_line = " ".join(text.split())
    return one_line if len(one_line) <= most else one_line[: most - 1] + "…"

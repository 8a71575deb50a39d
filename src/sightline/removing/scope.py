"""What is removed, and the places of what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sightline.common.check import integer, shown
from sightline.removing.removals import Removal, Site


class Scope:
    """Removals of one kind, and the places of their results.

    Args:
        of: "heads", "layers", "tokens" or "edges".
        sites: the layers.
        edges: (layer, head, query, key) of edges.
    """

    def __init__(self, of: str, sites: list[Site], edges: Sequence[tuple[Any, ...]]) -> None:
        self.of, self.sites = of, sites
        self.labels: list[str] = []
        most = max(site.heads for site in sites)
        self.shape: tuple[int, ...] = (len(sites),)
        self.removals: list[Removal] = []
        if of == "heads":
            self.shape = (len(sites), most)
            self.removals = [
                Removal(place * most + head, place, [head])
                for place, site in enumerate(sites)
                for head in range(site.heads)
            ]
        elif of == "layers":
            self.removals = [Removal(place, place) for place in range(len(sites))]
        elif of == "tokens":
            self._tokens()
        else:
            self._edges(edges)

    def _tokens(self) -> None:
        count = self.sites[0].keys
        self.shape = (count,)
        self.removals = [Removal(token, None, None, None, token) for token in range(count)]

    def token_sites(self) -> list[int]:
        """The sites whose keys are the tokens of the first one: a decoder's own tokens are others."""
        first = self.sites[0]
        decoders = {_stack_of(site.name) for site in self.sites if site.kind == "cross"}
        return [
            place
            for place, site in enumerate(self.sites)
            if site.keys == first.keys and (site.kind == "cross" or _stack_of(site.name) not in decoders)
        ]

    def _edges(self, edges: Sequence[tuple[Any, ...]]) -> None:
        self.shape = (len(edges),)
        for place, edge in enumerate(edges):
            if not isinstance(edge, (tuple, list)) or len(edge) != 4:
                raise TypeError(f"edges: takes (layer, head, query, key), got {shown(edge)}.")
            layer, head, query, key = edge
            at = self._site(layer)
            site = self.sites[at]
            heads = None if head is None else [_within("head", head, site.heads)]
            self.removals.append(
                Removal(
                    place, at, heads, _within("query", query, site.queries), _within("key", key, site.keys)
                )
            )
            named = "all heads" if heads is None else f"head {heads[0]}"
            self.labels.append(f"{site.name}, {named}, {query} -> {key}")

    def _site(self, layer: Any) -> int:
        if isinstance(layer, str):
            for place, site in enumerate(self.sites):
                if site.name == layer or site.name.startswith(f"{layer}."):
                    return place
            raise ValueError(f"edges: no attention ran in {layer!r}.")
        return _within("layer", layer, len(self.sites))


def _within(name: str, value: Any, size: int) -> int:
    return integer(f"edges: {name}", value, -size, size - 1) % size


def _stack_of(name: str) -> str:
    """The name up to the first number: of the list of layers that it belongs to."""
    parts = name.split(".")
    numbered = next((at for at, part in enumerate(parts) if part.isdigit()), len(parts))
    return ".".join(parts[:numbered])

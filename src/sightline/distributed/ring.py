"""Keys and values go round: each process computes its own queries against the keys of one process at a time.

At hop t a process sends its keys to the one t places on, and gets those of the one t places back, while it
computes with what came before. It sends to each what that one may see, straight, so that nothing is passed on
by processes that have no use for it. In the backward pass keys and values go the same way again, and their
gradients go back to their owners, who add them up in the order of the hops: the same bits in every run.

Letters: B batch, H heads, G key/value heads, N own queries, D query width, E value width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.backends import Problem, choose
from sightline.backends.problem import compute_dtype, empty_context
from sightline.backends.select import part as part_of
from sightline.backends.softmax import RowSums
from sightline.common.zones import zone
from sightline.distributed.layout import Layout
from sightline.distributed.link import InFlight, Link, Receipt
from sightline.distributed.sums import joined, lse_of, no_sums, rows_of, share, sums_of_tile
from sightline.distributed.tiles import Part, Span, Tile, problem_of_tile, spans_of, tiles


@dataclass
class Ring:
    """One call of attention on several processes, as one of them sees it.

    Attributes:
        link: to the others.
        queries, keys: who holds which.
        table: of each process, which keys of each segment it needs.
        own: the process's queries and all that is said of their rows; its key and value are without numbers.
        widths: D and E; E is 0 where there is no value.
    """

    link: Link
    queries: Layout
    keys: Layout
    table: list[list[Span]]
    own: Problem
    widths: tuple[int, int]

    def parts(self, key: Tensor, value: Tensor | None) -> Iterator[tuple[int, Part]]:
        """The keys and values of each process as they come, the own ones first; the next are under way."""
        rank, count = self.link.rank, self.link.count
        flight = self._sent(1, key, value) if count > 1 else None
        yield rank, self._cut(rank, key, value)
        for hop in range(1, count):
            assert flight is not None
            source = (rank - hop) % count
            come = flight.wait().get(source)
            flight = self._sent(hop + 1, key, value) if hop + 1 < count else None
            yield source, self._unpacked(source, come, key)

    def tiles(self, source: int) -> Iterator[Tile]:
        """The tiles of the own queries and the keys of a process."""
        return tiles(self.own, self.queries.segments[self.link.rank], self.needed(self.link.rank, source))

    def tile_problem(self, tile: Tile, part: Part, own: Problem | None = None) -> Problem:
        """The problem of a tile."""
        return problem_of_tile(own or self.own, tile, part, self.queries.length)

    def needed(self, rank: int, source: int) -> tuple[Span, ...]:
        """What a process needs of another's keys."""
        return spans_of(self.keys, source, self.table[rank])

    def limited(self, rows: slice, cols: slice) -> Ring:
        """The same where some rows and columns of the whole matrix are asked for, slices of step 1."""
        within = Span(cols.start, cols.stop)
        table = []
        for segments, spans in zip(self.queries.segments, self.table, strict=True):
            asks = any(max(one.first, rows.start) < min(one.last, rows.stop) for one in segments)
            cut = [span.within(within) for span in spans]
            table.append([one if asks and one.size else Span(one.first, one.first) for one in cut])
        return replace(self, table=table)

    def _cut(self, rank: int, key: Tensor, value: Tensor | None) -> Part:
        """What a process needs of this one's keys and values."""
        spans = self.needed(rank, self.link.rank)
        places = [
            slice(one.local + span.first - one.first, one.local + span.first - one.first + span.size)
            for one, span in zip(self.keys.segments[self.link.rank], spans, strict=True)
        ]
        return Part(spans, _rows(key, places), None if value is None else _rows(value, places))

    def _sent(self, hop: int, key: Tensor, value: Tensor | None) -> InFlight:
        rank, count = self.link.rank, self.link.count
        target, source = (rank + hop) % count, (rank - hop) % count
        _, sent_key, sent_value = self._cut(target, key, value)
        packed = [one.reshape(-1) for one in (sent_key, sent_value) if one is not None]
        size = sum(span.size for span in self.needed(rank, source)) * key.shape[0] * key.shape[1]
        with zone("send"):
            return self.link.exchange(
                {target: torch.cat(packed).detach()},
                {source: Receipt(size * sum(self.widths), key.dtype)},
                f"the keys and values of hop {hop}",
            )

    def _unpacked(self, source: int, come: Tensor | None, like: Tensor) -> Part:
        spans = self.needed(self.link.rank, source)
        count = sum(span.size for span in spans)
        b, g = like.shape[:2]
        d, e = self.widths
        come = like.new_empty(0) if come is None else come.to(like.device)
        key, value = come.split([b * g * count * d, b * g * count * e])
        return Part(spans, key.view(b, g, count, d), value.view(b, g, count, e) if e else None)


def _rows(tensor: Tensor, places: Sequence[slice]) -> Tensor:
    """Some rows [B,G,m,·], one slice after another."""
    spans = [tensor[:, :, place] for place in places]
    if len(spans) == 1:
        return spans[0]
    return torch.cat(spans, 2) if spans else tensor[:, :, :0]


class Returning:
    """What processes found for the keys of each other, on its way to those who hold these.

    Args:
        ring: the call.
        home: [B,·,m,·] of the own keys, what is added to: hop after hop, in every run alike.
    """

    def __init__(self, ring: Ring, home: Sequence[Tensor]) -> None:
        self._ring, self._home = ring, home
        self._open: tuple[int, InFlight | None, Sequence[Tensor]] | None = None

    def send(self, hop: int, of_part: Sequence[Tensor], what: str) -> None:
        """Begins to send what was found at a hop, and takes in what was sent at the one before."""
        self.finish()
        link = self._ring.link
        user = (link.rank + hop) % link.count  # who has computed with the own keys at this hop
        flight = None
        if hop:
            flight = link.exchange(
                {(link.rank - hop) % link.count: torch.cat([one.reshape(-1) for one in of_part])},
                {user: Receipt(sum(map(math.prod, self._shapes(user))), self._home[0].dtype)},
                f"{what} of hop {hop}",
            )
        self._open = user, flight, of_part

    def finish(self) -> None:
        """Takes in what is still under way."""
        if self._open is None:
            return
        user, flight, came = self._open
        self._open = None
        if flight is not None:
            come = flight.wait().get(user)
            flat = self._home[0].new_empty(0) if come is None else come.to(self._home[0].device)
            shapes = self._shapes(user)
            parts = flat.split([math.prod(shape) for shape in shapes])
            came = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        rank, start = self._ring.link.rank, 0
        for one, span in zip(self._ring.keys.segments[rank], self._ring.needed(user, rank), strict=True):
            first = one.local + span.first - one.first
            for total, part in zip(self._home, came, strict=True):
                total[:, :, first : first + span.size] += part[:, :, start : start + span.size]
            start += span.size

    def _shapes(self, user: int) -> list[tuple[int, ...]]:
        """Of what comes from a process."""
        count = sum(span.size for span in self._ring.needed(user, self._ring.link.rank))
        return [(*one.shape[:2], count, one.shape[3]) for one in self._home]


class Done(NamedTuple):
    """What the forward pass gives.

    Attributes:
        context: [B,H,N,E] in the query's dtype.
        sums: of whole rows.
        of_tiles: of each tile, in the order in which they were computed.
    """

    context: Tensor
    sums: RowSums
    of_tiles: list[RowSums]


def forward(ring: Ring, key: Tensor, value: Tensor) -> Done:
    """The context of the own queries; partial results are put together in float32 or better."""
    own = ring.own
    sums, of_tiles = no_sums(own), []
    context = empty_context(own.query, value.shape[3], compute_dtype(own)).zero_()
    for source, part in ring.parts(key, value):
        for tile in ring.tiles(source):
            problem = ring.tile_problem(tile, part)
            of_tile, lse = choose(problem).forward(problem)
            assert lse is not None
            mine = sums_of_tile(problem, lse)
            before = rows_of(sums, tile.rows)
            together = joined(before, mine)
            rows = context[:, :, tile.rows]
            rows.mul_(share(before, together)[..., None]).add_(
                of_tile * _like(share(mine, together), of_tile)
            )
            sums.top[:, :, tile.rows], sums.log_sum[:, :, tile.rows] = together
            of_tiles.append(mine)
    return Done(context.to(own.query.dtype), sums, of_tiles)


def _like(of_rows: Tensor, rows: Tensor) -> Tensor:
    return of_rows.to(rows.dtype)[..., None]


class Upstream(NamedTuple):
    """What the backward pass is given: the forward's results and their gradients, of the own rows."""

    done: Done
    grad_context: Tensor
    grad_lse: Tensor | None


def backward(
    ring: Ring, own: Problem, key: Tensor, value: Tensor, given: Upstream, wanted: Sequence[str]
) -> dict[str, Tensor]:
    """The wanted gradients, by name of the field, in float32 or better.

    Those of keys and values are of the process's own, from the queries of all. Those of slopes, a table and
    sinks are what its own queries give, as of every parameter that all processes hold.
    """
    dtype = compute_dtype(own)
    gradients = {
        name: torch.zeros_like(getattr(own, name), dtype=dtype)
        for name in wanted
        if name not in ("key", "value", "sinks")
    }
    home = [torch.zeros_like(one, dtype=dtype) for one in (key, value)]
    asked = [name for name in ("query", "key", "value", "bias", "slopes", "table") if name in wanted]
    sums_of_tiles = iter(given.done.of_tiles)
    returning = Returning(ring, home)
    for hop, (source, part) in enumerate(ring.parts(key, value)):
        of_part = [torch.zeros_like(one, dtype=dtype) for one in (part.key, part.value) if one is not None]
        for tile in ring.tiles(source):
            problem = ring.tile_problem(tile, part, own)
            found = _through_tile(problem, tile, next(sums_of_tiles), given, asked)
            _add_up(gradients, found, tile)
            for total, name in zip(of_part, ("key", "value"), strict=True):
                if name in found:
                    total[:, :, tile.at] += found[name]
        returning.send(hop, of_part, "the gradients")
    returning.finish()
    if "sinks" in wanted:
        gradients["sinks"] = _of_sinks(own, given)
    return gradients | {name: one for name, one in zip(("key", "value"), home, strict=True) if name in wanted}


def _through_tile(
    problem: Problem, tile: Tile, sums: RowSums, given: Upstream, asked: Sequence[str]
) -> dict[str, Tensor]:
    """The gradients of a tile's problem: what reaches its rows is their share in the whole's."""
    done = given.done
    of_rows = share(sums, rows_of(done.sums, tile.rows))
    grad_context = given.grad_context[:, :, tile.rows].to(problem.query.dtype)
    context = done.context[:, :, tile.rows].to(problem.query.dtype)
    grad_lse = None if given.grad_lse is None else (given.grad_lse[:, :, tile.rows] * of_rows)
    # A backend needs the context for Σ context · d context alone, and here that is the whole row's.
    grad_context = grad_context * _like(of_rows, grad_context)
    return choose(problem).backward(problem, context, lse_of(sums), grad_context, grad_lse, asked)


def _add_up(gradients: dict[str, Tensor], found: dict[str, Tensor], tile: Tile) -> None:
    for name, one in found.items():
        if name == "query":
            gradients[name][:, :, tile.rows] += one
        elif name == "bias":
            rows = part_of(gradients[name], 2, tile.rows)
            part_of(rows, 3, slice(*tile.keys)).add_(one)
        elif name in gradients:
            gradients[name] += one


def _of_sinks(own: Problem, given: Upstream) -> Tensor:
    """-Σ weight · δ of the sinks, which have no value: [H]."""
    assert own.sinks is not None
    sums, context = given.done.sums, given.done.context
    delta = (given.grad_context.to(sums.top.dtype) * context.to(sums.top.dtype)).sum(-1)
    if given.grad_lse is not None:
        delta = delta - given.grad_lse
    sink = RowSums(own.sinks.to(sums.top.dtype)[:, None].expand_as(sums.top), torch.zeros_like(sums.top))
    return -(share(sink, sums) * delta).sum((0, 2))

"""What a matrix on several processes is, and how its tiles are gone through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, NoReturn, Self

import torch
from torch import Tensor

from sightline.backends import Problem, Work, choose, with_tensors
from sightline.backends.grouped import grouped_product
from sightline.backends.problem import compute_dtype
from sightline.backends.select import select_batch, select_heads
from sightline.backends.softmax import RowSums
from sightline.distributed.agreement import agreed, of_tensor, of_text
from sightline.distributed.layout import Layout
from sightline.distributed.link import Receipt
from sightline.distributed.ring import Ring
from sightline.distributed.sums import lse_of, rows_of, share, sums_of_tile
from sightline.distributed.tiles import Part, Tile
from sightline.matrix import AttentionMatrix
from sightline.matrix.indexing import ALL, as_slice

_BAND = 4096  # rows whose cells of a picture are held at a time


class Piece(NamedTuple):
    """A tile's matrix, and what its weights are multiplied with in the whole: [B,H,n].

    Attributes:
        other: what came with its keys, [B,G,m,F].
    """

    tile: Tile
    matrix: AttentionMatrix
    share: Tensor
    other: Tensor | None

    def of_rows(self, found: Tensor) -> Tensor:
        """What was found for the rows of the tile, [B,H,n] or [B,H,n,·], times their share."""
        return found * (self.share if found.dim() == 3 else self.share[..., None]).to(found.dtype)


class ShardedCore(AttentionMatrix):
    """What it is: the process's queries and keys, and the sums of its rows; and how to go through its tiles.

    Its shape and its indices are those of the whole matrix. All processes call what computes together.
    """

    _ring: Ring
    _own_key: Tensor
    _own_value: Tensor | None
    _sums: RowSums
    _name: int

    @classmethod
    def of_ring(cls, ring: Ring, key: Tensor, value: Tensor | None, sums: RowSums, name: int) -> Self:
        """The matrix of a call; ``name`` is a number that it has in all processes."""
        ring = replace(ring, own=replace(ring.own, dropout=0.0, seed=None))
        return cls._of_parts(ring, key.detach(), value, sums, name, (False, False))

    @classmethod
    def _of_parts(
        cls,
        ring: Ring,
        key: Tensor,
        value: Tensor | None,
        sums: RowSums,
        name: int,
        dropped: tuple[bool, bool],
    ) -> Self:
        b, h, _, m = ring.own.shape
        lead = [size for size, gone in zip((b, h), dropped, strict=True) if not gone]
        query = ring.own.query
        made = cls._without_storage([*lead, ring.queries.length, m], query.dtype, query.device)
        made._ring, made._own_key, made._sums, made._name = ring, key, sums, name
        made._own_value, made._dropped = None if value is None else value.detach(), dropped
        made._written = (query._version, key._version)
        return made

    _written: tuple[int, int]

    @property
    def _problem(self) -> Problem:  # type: ignore[override]
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotImplementedError(
            "AttentionMatrix: this is not there for a matrix on several processes; readouts, products, parts "
            "and pictures are. With query, key and value of distributed.unshard() one process has the whole; "
            "or save a trace of it, which opens as one."
        )

    @property
    def query(self) -> Tensor:
        """The process's own queries, [B,H,n,D]."""
        return self._ring.own.query

    @property
    def key(self) -> Tensor:
        """The process's own keys, [B,G,m,D]."""
        return self._own_key

    @property
    def value(self) -> Tensor | None:
        """The process's own values, [B,G,m,E]."""
        return self._own_value

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """(B, H, N, M) of the whole."""
        b, h, _, m = self._ring.own.shape
        return b, h, self._ring.queries.length, m

    @property
    def positions(self) -> Tensor:
        """Where the process's rows stand in the whole matrix: [n] int64."""
        return self._ring.queries.positions(self._ring.link.rank, self.device)

    @property
    def key_positions(self) -> Tensor:
        """Where the process's keys stand in the whole matrix: [m] int64."""
        return self._ring.keys.positions(self._ring.link.rank, self.device)

    @property
    def lse(self) -> Tensor:
        """ln Σ exp(masked) of the process's own rows, [B,H,n]; computes nothing."""
        return self.exact_lse.to(compute_dtype(self._ring.own))

    @property
    def exact_lse(self) -> Tensor:
        """The same in float64."""
        return self._squeeze(lse_of(self._sums))

    def row_sums(self) -> Tensor:
        """What the weights of each own row sum to, [B,H,n] in float64: 1, less what a sink takes, or 0."""
        lse, sinks = lse_of(self._sums), self._ring.own.sinks
        sums = (lse > -torch.inf).double()
        if sinks is not None:
            sums = sums * -torch.expm1(sinks.to(lse.dtype)[:, None] - lse.masked_fill(lse == -torch.inf, 0))
        return self._squeeze(sums)

    def detach(self) -> Self:
        """The matrix itself, which is outside of autograd."""
        return self

    def _wants_grad(self) -> bool:
        return False

    def _unchanged(self) -> None:
        now = (self.query._version, self._own_key._version)
        if now != self._written:
            name = "query" if now[0] != self._written[0] else "key"
            raise RuntimeError(
                f"{name}: changed in place after this matrix was made. Make the matrix from {name}.clone()."
            )

    def _selected(self, batch: Any, heads: Any, drop: tuple[bool, bool]) -> Self:
        entries, those = _places(batch), _places(heads)

        def cut(problem: Problem) -> Problem:
            return select_heads(select_batch(problem, entries), those)

        ring, sums = self._ring, self._sums
        # The own keys stand for those of all here: only batch entries and heads are chosen.
        mine = {"key": self._own_key} | ({} if self._own_value is None else {"value": self._own_value})
        held = cut(with_tensors(replace(ring.own, value=None), mine))
        chosen = RowSums(*(one[entries][:, those] for one in sums))
        return self._of_parts(
            replace(ring, own=cut(ring.own)), held.key, held.value, chosen, self._name, drop
        )

    # --- kept elsewhere, and checked --------------------------------------------------------------------

    @property
    def layouts(self) -> tuple[int, Layout, Layout]:
        """Which process this is, and who holds which queries and keys."""
        return self._ring.link.rank, self._ring.queries, self._ring.keys

    def held(self) -> Problem:
        """The process's queries against the keys that it holds; masks and biases are against those of all."""
        return replace(self._ring.own, key=self._own_key, value=self._own_value)

    def on(self, held: Problem) -> Self:
        """The same matrix on other tensors, which hold what :meth:`held` gave."""
        whole = self._ring.own
        key = held.key.new_zeros(()).expand(whole.key.shape)
        own = replace(held, key=key, value=None)
        ring = replace(self._ring, own=own)
        return self._of_parts(ring, held.key, held.value, self._sums, self._name, self._dropped)

    def sampled_contexts(self, rows: Sequence[int]) -> Tensor:
        """weights · value of some of the process's own rows, [B,H,n,E]; all processes call it together."""
        assert self._own_value is not None
        self._begin("a check")
        found = self._of_own_rows(self._own_value.shape[3])[:, :, : len(rows)]
        for _, _, pieces in self._hops(other=self._own_value.to(found.dtype)):
            for piece in pieces:
                assert piece.other is not None
                first, last = piece.tile.rows.start, piece.tile.rows.stop
                for place, row in enumerate(rows):
                    if first <= row < last:
                        some = slice(row - first, row - first + 1)
                        weights = piece.matrix.part(some) * piece.share[:, :, some, None]
                        found[:, :, place] += grouped_product(weights.to(found.dtype), piece.other)[:, :, 0]
        return found

    # --- going through it -----------------------------------------------------------------------------

    def _begin(self, what: str, *arguments: Any) -> None:
        """Makes sure that all processes read the same of the same matrix."""
        self._unchanged()
        told = [of_tensor(one) if isinstance(one, Tensor) else repr(one) for one in arguments]
        same = {
            "matrix (which of those that were made)": self._name,
            "matrix: shape": of_text(str(self.shape)),
            f"{what}: arguments": of_text(repr(told)),
        }
        agreed(self._ring.link, f"{what} of a matrix", same, [])

    def _pieces(self, rows: slice = ALL, cols: slice = ALL) -> Iterator[Piece]:
        """The tiles that hold some rows and columns, and more."""
        for _, _, pieces in self._hops(rows, cols):
            yield from pieces

    def _hops(
        self, rows: slice = ALL, cols: slice = ALL, other: Tensor | None = None
    ) -> Iterator[tuple[int, int, Iterator[Piece]]]:
        """Hop after hop: its number, how many keys have come, and the tiles.

        Args:
            rows, cols: the tiles hold these, and more.
            other: [B,G,m,F], travels with the keys.
        """
        _, _, n, m = self.sizes
        ring = self._limited(as_slice(rows, n, "N"), as_slice(cols, m, "M"), other)
        for hop, (source, part) in enumerate(ring.parts(self._own_key, other)):
            yield hop, part.key.shape[2], self._tiles(ring, source, part)

    def _tiles(self, ring: Ring, source: int, part: Part) -> Iterator[Piece]:
        bare = part._replace(value=None)
        for tile in ring.tiles(source):
            problem = ring.tile_problem(tile, bare)
            lse = choose(problem, Work("lse")).lse(problem)
            factor = share(sums_of_tile(problem, lse), rows_of(self._sums, tile.rows))
            came = None if part.value is None else part.value[:, :, tile.at]
            yield Piece(tile, AttentionMatrix.of_problem(problem, lse), factor, came)

    def _limited(self, rows: slice, cols: slice, other: Tensor | None) -> Ring:
        widths = (self._own_key.shape[3], 0 if other is None else other.shape[3])
        return replace(self._ring.limited(rows, cols), widths=widths)

    def _of_own_rows(self, *rest: int, fill: float = 0.0, dtype: torch.dtype | None = None) -> Tensor:
        """Room for something of the own rows, [B,H,n,·]."""
        shape = (*self._ring.own.shape[:3], *rest)
        return torch.full(shape, fill, dtype=dtype or compute_dtype(self._ring.own), device=self.device)

    def _from_all(self, own: Tensor, sizes: Iterable[int], what: str) -> list[Tensor]:
        """Flat tensors of all processes, of known sizes."""
        link = self._ring.link
        into = {rank: Receipt(size, own.dtype) for rank, size in enumerate(sizes) if rank != link.rank}
        found = link.exchange(dict.fromkeys(into, own.reshape(-1)), into, what).wait()
        found[link.rank] = own.reshape(-1)
        empty = own.new_empty(0)
        return [found.get(rank, empty).to(own.device) for rank in range(link.count)]


def _places(entry: Any) -> Any:
    """A batch or head entry of an index as select_batch takes it."""
    if isinstance(entry, Tensor):
        return entry.tolist()
    return slice(entry, entry + 1 or None) if isinstance(entry, int) else entry

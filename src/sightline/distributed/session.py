"""A block in which several processes share every sequence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.utils._python_dispatch import _disable_current_modes

from sightline.backends import Problem
from sightline.backends.problem import tensors, with_tensors
from sightline.backends.softmax import RowSums
from sightline.biases import Bias
from sightline.call import listeners
from sightline.common import dispatcher, several
from sightline.common.check import choice, flag
from sightline.distributed import heads
from sightline.distributed.agreement import agreed, check_equal, of_number, of_tensor, of_text
from sightline.distributed.layout import Layout, Order, check_order, layout_of
from sightline.distributed.link import Link
from sightline.distributed.matrix import ShardedMatrix
from sightline.distributed.own_rows import DENSE, Held, bias_of_rows, mask_of_rows
from sightline.distributed.recorded import SMOOTH, attend
from sightline.distributed.ring import Ring
from sightline.distributed.tiles import Span, needed_keys
from sightline.lowering import DTYPES, autocast, check_value, checked_dropout, lower
from sightline.lowering.checks import check_shapes, check_tensors
from sightline.masks import Both, Either, Mask

How = Literal["auto", "ring", "heads"]


class Session(several.Sharing):
    """The processes that share a sequence, as seen by one of them."""

    def __init__(self, link: Link, order: Order, how: How = "auto") -> None:
        self.link, self.order, self.how = link, order, how
        self._made = 0  # matrices

    def layout(self, count: int) -> Layout:
        """Who holds what of an axis of which this process has ``count`` rows; all ask together."""
        every = agreed(self.link, "a look at who holds which rows", {}, [count])
        return layout_of([own for (own,) in every], self.order)

    def positions(self, count: int, device: torch.device) -> Tensor:
        """Where the process's rows stand in the whole sequence: [count] int64; all ask together."""
        return self.layout(count).positions(self.link.rank, device)

    def attention(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Any:
        """What :func:`sightline.attention` gives for the process's part of the sequence."""
        call = _Call(**options)
        watchers = several.watchers()
        if not watchers:
            return self._attended(query, key, value, call)
        with _disable_current_modes():  # what sees single operations would take tiles for calls
            context, matrix = self._attended(query, key, value, call._replace(return_matrix=True))
            seen = several.SharedCall(query, key, value, context, matrix, float(call.dropout))
            for one in watchers:
                one.shared(seen)
        return (context, matrix) if call.return_matrix else context

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, call: _Call) -> Any:
        """Context and, where it is asked for, the matrix."""
        query, key, value = self._checked(query, key, value, call)
        queries, keys, seed = self._agreed(query, key, value, call)
        ring, smooth = self._ring(query, key, value, call, queries, keys)
        if seed is not None:
            ring.own = replace(ring.own, dropout=float(call.dropout), seed=seed)
        context, sums = self._computed(ring, smooth, call)
        if not call.return_matrix:
            return context
        self._made += 1
        return context, ShardedMatrix.of_ring(ring, key, value, sums, self._made)

    def _computed(self, ring: Ring, smooth: dict[str, Tensor | None], call: _Call) -> tuple[Tensor, RowSums]:
        """Context and sums of the own rows, by a ring or by heads."""
        if not (heads.possible(ring) if self.how == "heads" else self.how == "auto" and heads.cheaper(ring)):
            context, done = attend(ring, smooth)
            return context, done.sums
        rows = {name: one for name in ("query", "key", "value") if (one := smooth[name]) is not None}
        context, lse = heads.attend(ring, _lowered_whole(rows, ring, call), rows)
        return context, RowSums(lse, torch.zeros_like(lse))

    def _checked(self, query: Tensor, key: Tensor, value: Tensor, call: _Call) -> tuple[Tensor, ...]:
        """The tensors, once they are found to fit together; the others are told if not."""
        try:
            _check_supported(query, call)
            check_value(value)
            query, key, value = autocast(query, key, value)
            check_tensors(query, key, value)
            check_shapes(query, key, value)
            checked_dropout(call.dropout)
        except Exception as error:
            agreed(self.link, _DOING, {}, [], error)
        return query, key, value

    def _agreed(
        self, query: Tensor, key: Tensor, value: Tensor, call: _Call
    ) -> tuple[Layout, Layout, Tensor | None]:
        """Who holds which queries and keys, and the seed of the dropout."""
        b, h, n, d = query.shape
        smooth = [one for one in (query, key, value, call.sinks) if isinstance(one, Tensor)]
        same = {
            "query: batch B (axis 0)": b,
            "query: heads H (axis 1)": h,
            "query: width D (axis 3)": d,
            "key: heads G (axis 1)": key.shape[1],
            "value: width E (axis 3)": value.shape[3],
            f"query: dtype (here {query.dtype})": DTYPES.index(query.dtype),
            f"mask (here {_kind(call.mask)})": of_text(_kind(call.mask)),
            f"bias (here {_kind(call.bias)})": of_text(_kind(call.bias)),
            f"scale (here {call.scale})": _of_setting(call.scale),
            f"softcap (here {call.softcap})": _of_setting(call.softcap),
            f"dropout (here {call.dropout})": of_number(float(call.dropout)),
            "sinks": of_tensor(call.sinks),
            f"how (here {self.how})": of_text(self.how),
            f"order (here {self.order})": of_text(self.order),
            "return_matrix": int(call.return_matrix is not False),
            "whether gradients are recorded": int(dispatcher.are_recorded(smooth)),
        }
        # Every process draws, so that their generators stay alike; the first one's counts.
        seed = torch.randint(2**62, (), device=query.device) if call.dropout > 0 else None
        own = [n, key.shape[2], 0 if seed is None else int(seed)]
        every = agreed(self.link, _DOING, same, own)
        queries, keys = (layout_of([one[at] for one in every], self.order) for at in (0, 1))
        return queries, keys, None if seed is None else seed.new_tensor(every[0][2])

    def _ring(
        self, query: Tensor, key: Tensor, value: Tensor, call: _Call, queries: Layout, keys: Layout
    ) -> tuple[Ring, dict[str, Tensor | None]]:
        """The call, lowered for the own rows, and the tensors that gradients reach."""
        held = Held(queries, self.link.rank)
        segments = [one for of_rank in keys.segments for one in of_rank]
        room = 4 + DENSE + 2 * len(segments)
        try:
            own = _lowered(query, key, value, call, held, keys.length)
            needs = needed_keys(own, segments)
        except Exception as error:
            agreed(self.link, _LOWERED, {}, [], error, room)
            raise
        numbers = [*held.checksums_of_dense(), *(number for span in needs for number in span)]
        every = agreed(self.link, _LOWERED, {"mask or bias": held.checksum()}, numbers, room=room)
        for at in range(DENSE):
            check_equal("mask or bias, dense", [None if one[at] < 0 else one[at] for one in every])
        spans = [one[DENSE:] for one in every]
        table = [[Span(*pair) for pair in zip(one[::2], one[1::2], strict=True)] for one in spans]
        smooth: dict[str, Tensor | None] = {name: getattr(own, name) for name in SMOOTH}
        smooth |= {"key": key, "value": value}
        bare = with_tensors(own, {name: one.detach() for name, one in tensors(own).items()})
        ring = Ring(self.link, queries, keys, table, bare, (key.shape[3], value.shape[3]))
        return ring, smooth


_DOING = "attention"
_LOWERED = "attention, its mask and bias lowered"


class _Call(NamedTuple):
    """The options of a call of attention."""

    mask: Mask | Tensor | None = None
    bias: Bias | Tensor | None = None
    scale: float | Tensor | None = None
    softcap: float | Tensor | None = None
    sinks: Tensor | None = None
    dropout: float = 0.0
    return_matrix: Any = False


def _check_supported(query: Tensor, call: _Call) -> None:
    if getattr(query, "is_nested", False):
        raise NotImplementedError(
            "query: nested tensors are not split over processes. Pack the texts in one row, with "
            "mask=sightline.documents(ids)."
        )
    if isinstance(call.softcap, Tensor) and call.softcap.requires_grad:
        raise NotImplementedError("softcap: no gradients on several processes. Give a number.")
    if call.return_matrix == "differentiable":
        raise NotImplementedError(
            'return_matrix: "differentiable" is not there on several processes. Use True.'
        )
    flag("return_matrix", call.return_matrix, "differentiable")
    if dispatcher.is_transformed() or torch.compiler.is_compiling():
        raise NotImplementedError(
            "context_parallel: attention on several processes has a backward pass, but takes no part in "
            "torch.func, forward mode and torch.compile. Call it outside of these."
        )
    if listeners.anybody():
        raise NotImplementedError(
            "context_parallel: losses and monitors that listen to every call do not follow attention on "
            "several processes. Leave their block, and ask for return_matrix=True, or use sightline.trace."
        )


def _lowered(query: Tensor, key: Tensor, value: Tensor, call: _Call, held: Held, keys: int) -> Problem:
    """The own queries against all keys, of which only the shape is there."""
    b, g, _, d = key.shape
    options: dict[str, Any] = {
        "mask": None if call.mask is None else mask_of_rows(call.mask, held),
        "bias": None if call.bias is None else bias_of_rows(call.bias, held),
    }
    one = key.new_zeros(())
    return lower(
        query, one.expand(b, g, keys, d), one.expand(b, g, keys, value.shape[3]), **options,
        scale=call.scale, softcap=call.softcap, sinks=call.sinks,
    )  # fmt: skip


def _lowered_whole(rows: dict[str, Tensor], ring: Ring, call: _Call) -> Problem:
    """All queries against all keys, of which only the shapes are there."""
    lengths = {"query": ring.queries.length, "key": ring.keys.length, "value": ring.keys.length}
    empty = (
        one.new_zeros(()).expand(*one.shape[:2], lengths[name], one.shape[3]) for name, one in rows.items()
    )
    return lower(
        *empty, mask=call.mask, bias=call.bias, scale=ring.own.scale, softcap=ring.own.softcap,
        sinks=call.sinks,
    )  # fmt: skip


def _kind(term: Any) -> str:
    """What kind of mask or bias it is, in words that are the same in all processes."""
    if isinstance(term, (Both, Either)):
        return f"{type(term).__name__}({_kind(term.left)}, {_kind(term.right)})"
    return "none" if term is None else type(term).__name__


def _of_setting(value: float | Tensor | None) -> int:
    return (
        of_tensor(value) if isinstance(value, Tensor) else of_number(None if value is None else float(value))
    )


@contextmanager
def context_parallel(
    group: dist.ProcessGroup | DeviceMesh | None = None,
    *,
    order: Order = "contiguous",
    how: How = "auto",
    timeout: float = 300.0,
) -> Iterator[Session]:
    """A block in which several processes share every sequence: each holds a part, and attention sees all.

    Inside of the block :func:`sightline.attention`, the layers of :mod:`sightline.nn`, the models of
    :mod:`sightline.models` and, given ``position_ids``, those of Hugging Face take each process's own rows,
    and give the contexts of those rows as if one process had the whole sequence. Masks and biases are of the
    whole sequence, the same in every process, and positions in them are the whole's; only a dense tensor may
    have the process's own rows alone. All processes must make the same calls in the same order, their
    backward passes included.

    Gradients of queries, keys and values are those of one process. A parameter that every process holds, a
    projection as well as slopes, a table or sinks, gets what the own rows give: sum them over the processes.

    Args:
        group: of torch.distributed, or a mesh of one dimension. Default: all processes.
        order: which rows a process holds: "contiguous", one run, of any length, in the order of the
            processes; or "zigzag", a run from the front and one from the back, so that causal work is shared
            evenly. :func:`shard` cuts accordingly.
        how: "ring", keys and values go round; "heads", each process gets some heads of all rows, where the
            key heads G divide by the number of processes and there is no dropout and nothing dense, otherwise
            as "ring"; "auto", heads where that takes less than half of the ring's bytes.
        timeout: seconds to wait for another process (with nccl: the group's own time-out).

    Raises:
        RuntimeError: where torch.distributed was not started. ValueError, in a call: for what differs between
            processes. ProcessError, in a call: where another process has ended, hangs or failed; names it.

    Sources: Liu, Zaharia & Abbeel 2023, "Ring attention with blockwise transformers"; Brandon et al. 2023,
    "Striped attention" (balanced causal work); Jacobs et al. 2023, "DeepSpeed Ulysses" (heads).

    Example:
        >>> import sightline, torch
        >>> from sightline import distributed
        >>> torch.distributed.init_process_group(  # under torchrun: init_process_group("gloo")
        ...     "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
        >>> q, k, v = torch.randn(3, 1, 2, 10, 4)
        >>> with distributed.context_parallel(order="zigzag"):
        ...     own = [distributed.shard(one, 2) for one in (q, k, v)]
        ...     context = distributed.unshard(sightline.attention(*own, mask=sightline.causal()), 2)
        >>> torch.testing.assert_close(context, sightline.attention(q, k, v, mask=sightline.causal()))
        >>> torch.distributed.destroy_process_group()
    """
    check_order(order)
    choice("how", how, get_args(How))
    session = Session(Link(group, timeout), order, how)
    with ExitStack() as beside:
        for arranged in several.beside:
            beside.enter_context(arranged())
        several.enter(session)
        try:
            yield session
        finally:
            several.leave()

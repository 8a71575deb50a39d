"""Messages between the processes of a group: in flight while they compute, never waited for without end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from sightline.common import dispatcher
from sightline.common.check import number

_TURNS = 1 << 20  # tags repeat after so many exchanges


class ProcessError(RuntimeError):
    """Another process has ended, hangs, failed, or does something else than this one.

    Attributes:
        rank: its number in the group; ``None`` where no single one is known.

    Example:
        >>> from sightline import distributed
        >>> raise distributed.ProcessError("process 1 of 2 has ended", rank=1)
        Traceback (most recent call last):
        sightline.distributed.link.ProcessError: process 1 of 2 has ended
    """

    def __init__(self, message: str, rank: int | None = None) -> None:
        super().__init__(message)
        self.rank = rank


class Receipt(NamedTuple):
    """What is to come from another process: how many numbers of which dtype."""

    size: int
    dtype: torch.dtype


class _Begin(NamedTuple):
    """A message to be begun: PyTorch's function, its memory, the process at the other end."""

    way: Any
    tensor: Tensor
    rank: int


class _Open(NamedTuple):
    """A message on its way: PyTorch's handle, the process at the other end, and the memory that it uses."""

    work: Any
    rank: int
    room: Tensor


class InFlight:
    """Messages that were begun together."""

    def __init__(self, link: Link, sent: list[_Open], received: list[_Open], what: str) -> None:
        self._link, self._sent, self._received, self._what = link, sent, received, what

    def wait(self) -> dict[int, Tensor]:
        """What has come, by process, once all have.

        Raises:
            ProcessError: one did not come within the time-out, or its sender has ended.
        """
        for one in (*self._received, *self._sent):
            self._link.wait(one.work, one.rank, self._what)
        self._sent = []
        return {one.rank: one.room for one in self._received}


class Link:
    """The processes of a group, as seen by one of them.

    Every process calls the same methods in the same order; each exchange has a number, so that messages of
    different ones are never taken for each other.

    Args:
        group: a process group, or a mesh of one dimension. Default: all processes.
        timeout: seconds to wait for another process.

    Raises:
        RuntimeError: where torch.distributed was not started. ValueError: for a mesh of several dimensions.
    """

    def __init__(self, group: dist.ProcessGroup | DeviceMesh | None, timeout: float) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise RuntimeError(
                "distributed: torch.distributed was not started in this process. Call "
                'torch.distributed.init_process_group("gloo") first, in processes that torchrun starts.'
            )
        self.timeout = number("timeout", timeout, above=0)
        self.group = _group_of(group)
        self.rank, self.count = dist.get_rank(self.group), dist.get_world_size(self.group)
        if self.rank < 0:
            raise ValueError(
                "group: this process does not belong to it. Enter the block in its members alone."
            )
        self._everywhere = [dist.get_global_rank(self.group, rank) for rank in range(self.count)]
        nccl = dist.get_backend(self.group) == "nccl"
        self.device = torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")
        self._turn = 0

    def exchange(self, out: Mapping[int, Tensor], into: Mapping[int, Receipt], what: str) -> InFlight:
        """Begins to send flat tensors to processes and to receive others; empty ones do not travel.

        Args:
            out: by process, flat. They must not be written to before all have arrived.
            into: by process, what is to come.
            what: it is, for errors.
        """
        self._turn = (self._turn + 1) % _TURNS
        # What autograd hands over may be a single number that is repeated: no memory that can be sent.
        sends = {rank: one.to(self.device).contiguous() for rank, one in out.items() if one.numel()}
        rooms = {
            rank: torch.empty(one.size, dtype=one.dtype, device=self.device)
            for rank, one in into.items()
            if one.size
        }
        begun = [_Begin(dist.isend, one, rank) for rank, one in sends.items()]
        begun += [_Begin(dist.irecv, one, rank) for rank, one in rooms.items()]
        ends = self._begun(begun, what)
        return InFlight(self, ends[: len(sends)], ends[len(sends) :], what)

    def gathered(self, numbers: Sequence[int], what: str) -> list[list[int]]:
        """The integers of every process, as many from each."""
        with dispatcher.outside():  # inside of torch.func, PyTorch 2.6 cannot list the numbers of a tensor
            return self._gathered(numbers, what)

    def _gathered(self, numbers: Sequence[int], what: str) -> list[list[int]]:
        own = torch.tensor(numbers, dtype=torch.int64)
        others = [rank for rank in range(self.count) if rank != self.rank]
        flight = self.exchange(
            dict.fromkeys(others, own), dict.fromkeys(others, Receipt(len(numbers), torch.int64)), what
        )
        found = {rank: one.tolist() for rank, one in flight.wait().items()}
        found[self.rank] = list(numbers)
        return [found.get(rank, []) for rank in range(self.count)]

    def add_up(self, tensor: Tensor, what: str) -> None:
        """Writes the sum over all processes into a tensor of each.

        Raises:
            ProcessError: one has ended or hangs; PyTorch does not say which.
        """
        self.wait(dist.all_reduce(tensor, group=self.group, async_op=True), None, what)

    def wait(self, work: Any, rank: int | None, what: str) -> None:
        """Waits for one message, or raises with the number of the process at its other end, if known."""
        try:
            done = work.wait() if self.device.type == "cuda" else work.wait(timedelta(seconds=self.timeout))
        except RuntimeError as error:
            raise self._lost(rank, what, error) from error
        if done is False:
            raise self._lost(rank, what, None)

    def _begun(self, begins: list[_Begin], what: str) -> list[_Open]:
        if self.device.type == "cuda" and begins:
            together = [
                dist.P2POp(one.way, one.tensor, self._everywhere[one.rank], self.group, self._turn)
                for one in begins
            ]
            works = dist.batch_isend_irecv(together)
            works = works * len(begins) if len(works) == 1 else works
            return [_Open(work, one.rank, one.tensor) for work, one in zip(works, begins, strict=True)]
        opened = []
        for way, tensor, rank in begins:
            try:
                work = way(tensor, self._everywhere[rank], group=self.group, tag=self._turn)
            except RuntimeError as error:
                raise self._lost(rank, what, error) from error
            opened.append(_Open(work, rank, tensor))
        return opened

    def _lost(self, rank: int | None, what: str, error: Exception | None) -> ProcessError:
        ended = error is not None and "imed out" not in str(error)
        how = "has ended or cannot be reached" if ended else f"did not answer within {self.timeout:g} s"
        which = f"one of {self.count} processes" if rank is None else f"process {rank} of {self.count}"
        return ProcessError(
            f"{which} {how}, while process {self.rank} waited for {what}. Its own output says why; all "
            "processes must make the same calls. context_parallel(timeout=...) sets the time.",
            rank,
        )


def _group_of(group: dist.ProcessGroup | DeviceMesh | None) -> dist.ProcessGroup:
    if group is None:
        found = dist.group.WORLD
        assert found is not None
        return found
    if isinstance(group, DeviceMesh):
        if group.ndim != 1:
            raise ValueError(
                f"group: a mesh of {group.ndim} dimensions {group.mesh_dim_names or ''}; a sequence is split "
                'over one of them. Give that, mesh["cp"].'
            )
        return group.get_group()
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(f"group: expected a process group or a DeviceMesh, got {type(group).__name__}.")
    return group

"""One model trained by several processes: each takes its share of every batch, and all take the same step.

``torchrun`` and ``accelerate launch`` start them and number them by environment variables. A single
process does nothing of this.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sightline.common.devices import device_named
from sightline.common.errors import CommandError

T = TypeVar("T")
_WHILE_THE_FIRST_WORKS = timedelta(days=7)  # a process that dies is noticed at once by its closed connection
_APART = 1_000_003  # between the seeds of two processes


class ElsewhereError(CommandError):
    """The run ended because of another process, which reports why."""


class Processes:
    """The processes that train one model, as seen by one of them; by default it is the only one.

    Args:
        rank: the number of this process; only process 0 writes and reports.
        count: how many there are.
        waiting: the group in which the others wait while process 0 works. Default: the group of all.
        device: where this one trains. Default: the CPU.

    Methods that every process must call, in the same order: all but ``share``, ``seed`` and ``threads``.

    Raises:
        ElsewhereError: by each of them, in all processes but the one that reports what happened.
        CommandError: by each of them, in process 0: another process has ended without a report.
    """

    def __init__(
        self,
        rank: int = 0,
        count: int = 1,
        waiting: dist.ProcessGroup | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.rank, self.count, self._waiting = rank, count, waiting
        self.device = device or torch.device("cpu")

    def share(self, batch: Sequence[T]) -> list[T]:
        """This process's share of a batch: every ``count``-th example, so that lengths are similar."""
        return list(batch[self.rank :: self.count])

    def seed(self, seed: int) -> None:
        """Seeds each process differently, the same in every run; process 0 keeps its random numbers."""
        if self.rank:
            torch.manual_seed(seed + _APART * self.rank)

    def threads(self) -> int | None:
        """Cores of this machine for each process; ``None``, PyTorch's default, for a single one."""
        if self.count == 1:
            return None
        affinity = getattr(os, "sched_getaffinity", None)  # Linux
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", self.count)))

    def sum_gradients(self, parameters: Iterable[nn.Parameter], loss: float) -> float:
        """Gives each parameter the sum of its gradients in all processes; returns the sum of their losses.

        They travel in one flat tensor, with flags for those that exist: a parameter without a gradient in
        any process keeps none, since the optimiser skips those.
        """
        if self.count == 1:
            return loss
        own = list(parameters)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
        there = [float(p.grad is not None) for p in own]
        flat = torch.cat([*(part.flatten() for part in parts), parts[0].new_tensor([*there, loss])])
        with self._meeting():
            dist.all_reduce(flat)
        *sums, has_gradient, losses = flat.split([*(p.numel() for p in own), len(own), 1])
        for parameter, part, has in zip(own, sums, has_gradient.tolist(), strict=True):
            parameter.grad = part.view_as(parameter) if has else None
        return float(losses)

    def total(self, value: float) -> float:
        """The sum over processes."""
        return float(self.gathered(torch.tensor(value, dtype=torch.float64)).sum())

    def any(self, flag: bool) -> bool:
        """Whether it is true in at least one process."""
        return flag if self.count == 1 else bool(self.gathered(torch.tensor(flag)).any())

    def gathered(self, tensor: Tensor) -> Tensor:
        """[count, ...]: the tensors of all processes."""
        return self._gathered(tensor, None)

    def spread(self, tensors: Iterable[Tensor]) -> None:
        """Gives all processes the values of process 0, in place."""
        if self.count > 1:
            with self._meeting():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def first(self, action: Callable[[], T]) -> T:
        """The result of an action in process 0, for which the others wait. An error ends all."""
        if self.count == 1:
            return action()
        result: list[Any] = [None]
        with self._together(self._waiting):
            if self.rank == 0:
                result = [action()]
        with self._meeting():
            dist.broadcast_object_list(result, 0)
        given: T = result[0]
        return given

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block in which an error in any process ends all; they must not wait for each other inside.

        The error is raised in the first process that had one.
        """
        if self.count == 1:
            yield
            return
        with self._together(None):
            yield

    def check_same(self, given: dict[str, Any]) -> None:
        """Checks that settings which may differ between machines are the same in all processes.

        Raises:
            CommandError: it does.
        """
        if self.count == 1:
            return
        every: list[dict[str, Any]] = [{}] * self.count
        with self._meeting():
            dist.all_gather_object(every, given)
        with self.together():
            for rank, other in enumerate(every):
                differs = [name for name in given if other.get(name) != every[0][name]]
                if differs:
                    raise CommandError(
                        f"process {rank} has another {', '.join(differs)} than process 0; give all the same"
                    )

    @contextmanager
    def _together(self, group: dist.ProcessGroup | None) -> Iterator[None]:
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            error = caught
        failed = self._gathered(torch.tensor(error is not None), group).nonzero().flatten().tolist()
        if error is not None and failed[0] == self.rank:
            raise error
        if failed:
            raise ElsewhereError(f"process {failed[0]} of {self.count} failed, and tells why") from error

    def _gathered(self, tensor: Tensor, group: dist.ProcessGroup | None) -> Tensor:
        if self.count == 1:
            return tensor[None]
        every = [torch.empty_like(tensor) for _ in range(self.count)]
        with self._meeting():
            dist.all_gather(every, tensor, group)
        return torch.stack(every)

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        """Turns the error of waiting for a process that has ended into a message."""
        try:
            yield
        except RuntimeError as error:
            kind = ElsewhereError if self.rank else CommandError
            raise kind(
                f"another of the {self.count} processes has ended or cannot be reached; the same command "
                f"goes on from what was saved last"
            ) from error


@contextmanager
def joined(device: torch.device | None = None) -> Iterator[Processes]:
    """The processes described by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, until the block ends.

    On CUDA each takes the card of its LOCAL_RANK; gradients then travel by nccl, short messages by gloo.

    Args:
        device: where they train. Default: the CPU.

    Raises:
        CommandError: they cannot connect, or there are more of them than cards.
    """
    count = int(os.environ.get("WORLD_SIZE", 1))
    if count == 1:
        yield Processes(device=device)
        return
    cuda = device is not None and device.type == "cuda"
    if cuda:
        device = device_named(f"cuda:{os.environ.get('LOCAL_RANK', 0)}")
        torch.cuda.set_device(device)
    if not dist.is_available():
        raise CommandError("this PyTorch was built without torch.distributed: train in one process")
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        waiting = dist.new_group(timeout=_WHILE_THE_FIRST_WORKS)
    except (RuntimeError, ValueError) as error:
        raise CommandError(f"the {count} processes cannot meet: {error}") from None
    try:
        yield Processes(dist.get_rank(), count, waiting, device)
    finally:
        dist.destroy_process_group()

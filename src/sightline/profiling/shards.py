"""Several processes, on one machine or many, each with its share of the units, started by ``torchrun``."""

from __future__ import annotations

import datetime
import json
import os
from typing import Any

import torch
import torch.distributed as dist

from sightline.common.errors import CommandError

# Shards need not finish together. One that has died is noticed at once, by its closed connection.
_PATIENCE = datetime.timedelta(days=30)


class Shards:
    """This process among those that share the work.

    Attributes:
        rank: which one this is, from 0.
        world: how many there are.
    """

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world

    @classmethod
    def joined(cls) -> Shards:
        """This process, connected with the others if ``torchrun`` started several."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=_PATIENCE)
        return cls(dist.get_rank(), dist.get_world_size())

    def gather(self, part: Any) -> list[Any]:
        """The parts of all processes, in the order of their ranks; every process gets them.

        Args:
            part: what this process gives; it travels as JSON.

        Raises:
            CommandError: if another process has ended.
        """
        if self.world == 1:
            return [part]
        data = torch.frombuffer(bytearray(json.dumps(part).encode()), dtype=torch.uint8)
        try:
            sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
            dist.all_gather(sizes, torch.tensor([data.numel()]))
            longest = max(int(size) for size in sizes)
            padded = torch.zeros(longest, dtype=torch.uint8)
            padded[: data.numel()] = data
            rows = [torch.zeros_like(padded) for _ in range(self.world)]
            dist.all_gather(rows, padded)
        except RuntimeError as error:
            raise CommandError(f"another process ended: {str(error).splitlines()[0]}") from None
        return [
            json.loads(bytes(row[: int(size)].numpy().tobytes()))
            for row, size in zip(rows, sizes, strict=True)
        ]

    def leave(self) -> None:
        """Ends the connection."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()

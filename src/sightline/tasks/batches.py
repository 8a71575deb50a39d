"""The order of a run's batches follows from seed and epoch alone, so that a stopped run can be resumed."""

from __future__ import annotations

from typing import Any

import torch

from sightline.tasks.task import Task

_POOL = 50  # batches among which examples are sorted by length


def batches_of(task: Task, examples: list[Any], size: int, seed: int, epoch: int) -> list[list[Any]]:
    """The batches of one epoch."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    drawn = task.epoch(examples, generator)
    order = torch.randperm(len(drawn), generator=generator).tolist()
    batches: list[list[Any]] = []
    for start in range(0, len(order), size * _POOL):
        pool = sorted((drawn[i] for i in order[start : start + size * _POOL]), key=task.size)
        batches += [pool[at : at + size] for at in range(0, len(pool), size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

"""A process that ends or hangs is an error in the others, within the time-out, with its rank."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import torch
import torch.distributed as dist

import sightline
from distributed.pool import context
from sightline import distributed

COUNT = 3


def serve(rank: int, folder: str, how: str, answers: Any) -> None:
    """Two calls of attention; process 1 fails after the first, as ``how`` says."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=COUNT)
    tensors = [torch.randn(1, 1, 4, 4, requires_grad=True) for _ in range(3)]
    try:
        with distributed.context_parallel(timeout=3):
            context = sightline.attention(*tensors)
            if rank == 1 and how == "ends":
                os._exit(1)
            if rank == 1 and how == "hangs":
                time.sleep(3600)
            if how == "backward":
                if rank == 1:
                    os._exit(1)
                context.sum().backward()
            sightline.attention(*tensors)
        answers.put((rank, None, "no error"))
    except distributed.ProcessError as error:
        answers.put((rank, error.rank, str(error)))
    answers.close()
    answers.join_thread()
    os._exit(0)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ends", "hangs", "backward"])
def test_the_others_are_told_which_one(tmp_path, how):
    start = context()
    answers = start.Queue()
    processes = [
        start.Process(target=serve, args=(rank, str(tmp_path), how, answers)) for rank in range(COUNT)
    ]
    for process in processes:
        process.start()
    found = sorted(answers.get(timeout=600) for _ in range(COUNT - 1))
    for process in processes:
        process.kill()
        process.join()
    assert [rank for rank, _, _ in found] == [0, 2]
    for rank, lost, told in found:
        # A process that gave up ends, too, so that the last one may name either.
        assert lost in ({1, 2 - rank}), told
        assert f"process {lost} of 3" in told
    assert any(lost == 1 for _, lost, _ in found)
    how_told = "did not answer within 3 s" if how == "hangs" else "has ended or cannot be reached"
    assert any(how_told in told for _, lost, told in found if lost == 1), found

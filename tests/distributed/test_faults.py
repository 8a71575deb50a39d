"""A process that ends or hangs is an error in the others, within the time-out, with its rank."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist

import sightline
from distributed.pool import context
from sightline import distributed
from sightline.distributed.link import Link

COUNT = 3


def fail_inside(owner: Any, name: str, what: str, fails: Callable[[], Any]) -> None:
    """Process 1 fails where it begins a message of that kind, when the others count on it."""
    original = getattr(owner, name)

    def begin(*given: Any, **options: Any) -> Any:
        if what in str(given[-1]):
            fails()
        return original(*given, **options)

    setattr(owner, name, begin)


def serve(rank: int, folder: str, how: str, answers: Any) -> None:
    """Calls of attention; process 1 fails in or after one of them, as ``how`` says."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=COUNT)
    tensors = [torch.randn(1, 1, 4, 4, requires_grad=True) for _ in range(3)]
    try:
        with distributed.context_parallel(timeout=3):
            context, matrix = sightline.attention(*tensors, return_matrix=True)
            if rank == 1 and how == "ends in a hop":
                fail_inside(Link, "exchange", "hop 2", lambda: os._exit(1))
            if rank == 1 and how == "hangs in a readout":
                fail_inside(Link, "exchange", "received", lambda: time.sleep(3600))
            if how == "hangs in a readout":
                matrix.received()
            if rank == 1 and how == "hangs in a sum":
                fail_inside(Link, "add_up", "gradients", lambda: time.sleep(3600))
            if how == "hangs in a sum":
                context.sum().backward()
                distributed.sum_gradients(tensors)
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
@pytest.mark.parametrize(
    "how",
    ["ends", "hangs", "backward", "ends in a hop", "hangs in a readout", "hangs in a sum"],
)
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
    how_told = "did not answer within 3 s" if "hangs" in how else "has ended or cannot be reached"
    if how == "hangs in a sum":  # PyTorch adds up, and does not say who was missing
        assert all(lost is None and told.startswith("one of 3 processes") for _, lost, told in found), found
        return
    for rank, lost, told in found:
        # A process that gave up ends, too, so that the last one may name either.
        assert lost in ({1, 2 - rank}), told
        assert f"process {lost} of 3" in told
    assert any(lost == 1 for _, lost, _ in found)
    assert any(how_told in told for _, lost, told in found if lost == 1), found

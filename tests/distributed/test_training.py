"""Batches with their labels shifted, and a model that learns on several processes as on one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

import sightline
from sightline import distributed

EXAMPLE = Path(__file__).parents[2] / "examples" / "shared_sequence.py"


def check_batches(group: Any) -> None:
    ids = torch.arange(22).view(2, 11)
    documents = torch.tensor([0] * 4 + [3] * 7)
    with distributed.context_parallel(group, order="zigzag", timeout=60):
        batch = distributed.next_tokens(ids, documents)
        whole = [distributed.unshard(one, 1) for one in batch[:2]]
        places = distributed.unshard(batch.positions, 0)
        assert places.tolist() == list(range(11)) and whole[0].equal(ids)
        right = torch.cat([ids[:, 1:], torch.full((2, 1), -100)], 1)
        right[:, 3] = -100
        assert whole[1].equal(right)
        first, second = (torch.zeros(3, requires_grad=True) for _ in range(2))
        none = torch.zeros(1, requires_grad=True)
        first.grad = torch.ones(3)
        second.grad = torch.ones(3) if dist.get_rank(group) == 0 else None
        distributed.sum_gradients([first, second, none])
        assert first.grad.tolist() == [2.0] * 3 and second.grad.tolist() == [1.0] * 3 and none.grad is None
        with pytest.raises(ValueError, match=r"documents: shape \[3\] does not fit ids of shape \[2, 11\]"):
            distributed.next_tokens(ids, documents[:3])


def check_mesh(group: Any) -> None:
    """A mesh of one dimension does as its group; of several dimensions one is to be given."""
    mesh = DeviceMesh.from_group(group, "cpu", mesh_dim_names=("cp",))
    tensors = torch.randn(3, 1, 2, 6, 4)
    with distributed.context_parallel(mesh, timeout=300):
        own = [distributed.shard(one, 2) for one in tensors]
        found = distributed.unshard(sightline.attention(*own), 2)
    torch.testing.assert_close(found, sightline.attention(*tensors))


def test_a_mesh(pool):
    pool.run(check_mesh, count=2)


def test_batches(pool):
    pool.run(check_batches, count=2)


@pytest.mark.slow
def test_the_losses_of_two_processes_are_those_of_one(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("Well, Prince, so Genoa and Lucca are now just family estates. " * 9)
    asked = [str(EXAMPLE), str(text), "--tokens", "251", "--steps", "4"]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    losses = []
    for before in ([], launch):
        done = subprocess.run(
            [sys.executable, *before, *asked],
            env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        losses.append([float(one) for one in re.findall(r"loss ([\d.]+)", done.stdout)])
    assert len(losses[0]) == 4 and losses[0][3] < losses[0][0]
    assert losses[0] == pytest.approx(losses[1], abs=2e-10)

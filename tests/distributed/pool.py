"""Four processes that run many cases, as starting them takes longer than most cases."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

MOST = 4


def context() -> Any:
    """How processes are started: one loads PyTorch, and the others are copies of it."""
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["distributed.problems", "sightline.models"])
    return start


class Pool:
    """Processes that form groups of 1 to ``MOST``, with gloo between them."""

    def __init__(self) -> None:
        start = context()
        self._folder = tempfile.TemporaryDirectory()
        ends = [start.Pipe() for _ in range(MOST)]
        self._pipes = [mine for mine, _ in ends]
        self._processes = [
            start.Process(target=_serve, args=(rank, theirs, self._folder.name), daemon=True)
            for rank, (_, theirs) in enumerate(ends)
        ]
        for process in self._processes:
            process.start()

    def run(self, function: Callable[..., Any], *args: Any, count: int = MOST) -> list[Any]:
        """What a function of a module gives in each of ``count`` processes: ``function(group, *args)``."""
        for pipe in self._pipes[:count]:
            pipe.send((function, count, args))
        answers = []
        for pipe in self._pipes[:count]:
            assert pipe.poll(600), "a process does not answer"
            answers.append(pipe.recv())
        failed = [f"process {rank}: {text}" for rank, (text, _) in enumerate(answers) if text]
        assert not failed, "\n".join(failed)
        return [found for _, found in answers]

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.send(None)
        for process in self._processes:
            process.join(30)
        self._folder.cleanup()


def _serve(rank: int, pipe: Any, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", f"file://{Path(folder) / 'meet'}", rank=rank, world_size=MOST)
    groups = {count: dist.new_group(list(range(count))) for count in range(1, MOST + 1)}
    while (asked := pipe.recv()) is not None:
        function, count, args = asked
        torch.manual_seed(0)
        try:
            pipe.send((None, function(groups[count], *args)))
        except Exception:
            pipe.send((traceback.format_exc(), None))
    dist.destroy_process_group()

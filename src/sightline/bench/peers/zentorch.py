"""zentorch, AMD's plug-in for PyTorch."""

from __future__ import annotations

import functools
import importlib
import subprocess
import sys

import torch

from sightline.bench.case import Case, Inputs
from sightline.bench.peers.peer import PreparedCase
from sightline.bench.peers.sdpa import Sdpa


class ZenTorch(Sdpa):
    """SDPA in ``torch.compile`` with its backend. Importing it changes PyTorch: in a process of its own."""

    title = "zentorch"
    packages = ("zentorch",)
    own_process = True

    def missing(self) -> str:
        return super().missing() or _cannot_be_imported()

    def why_not(self, case: Case) -> str:
        return "no backward pass" if case.direction == "backward" else ""

    def prepare(self, case: Case, given: Inputs, threads: int) -> PreparedCase:
        importlib.import_module("zentorch")
        run = super().prepare(case, given, threads)
        return PreparedCase(torch.compile(run.call, backend="zentorch", dynamic=False), run.outputs)

    def forget(self) -> None:
        torch._dynamo.reset()


@functools.cache
def _cannot_be_imported() -> str:
    """ "" if it can be. It is built for one PyTorch and for some processors; tried where it does no harm."""
    program = [sys.executable, "-c", "import torch, zentorch"]
    run = subprocess.run(program, capture_output=True, text=True, check=False)
    if run.returncode == 0:
        return ""
    lines = run.stderr.strip().splitlines()
    return f"cannot be imported: {lines[-1] if lines else f'exit code {run.returncode}'}"

"""PyTorch as it is, and compiled."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from sightline.bench.peers.peer import Contender, PreparedCase
from sightline.bench.wholes.case import Whole, WholeCase, prepared
from sightline.products import move_to_large_pages


class ByTorch(Contender):
    """The module as PyTorch, or Transformers with SDPA, has it."""

    title = "PyTorch"

    def load(self, case: WholeCase, threads: int) -> tuple[list[PreparedCase], list[Tensor]]:
        run = self.prepare(case, case.build(), threads)
        return [run], [output.detach().float() for output in run.outputs(run.call())]

    def prepare(self, case: WholeCase, whole: Whole, threads: int) -> PreparedCase:
        """The case, ready to be called."""
        return prepared(case, whole, self.turned(whole))

    def turned(self, whole: Whole) -> nn.Module:
        """What is called instead of the module."""
        return whole.module


class InLargePages(ByTorch):
    """PyTorch's layers, whose parameters lie as those of an accelerated model do."""

    title = "PyTorch in large pages"

    def turned(self, whole: Whole) -> nn.Module:
        move_to_large_pages(itertools.chain(whole.module.parameters(), whole.module.buffers()))
        return whole.module


class ByCompile(ByTorch):
    """``torch.compile`` of it, for these shapes."""

    title = "torch.compile"

    def turned(self, whole: Whole) -> nn.Module:
        compiled: Any = torch.compile(whole.module, dynamic=False)
        module: nn.Module = compiled
        return module

    def forget(self) -> None:
        torch._dynamo.reset()

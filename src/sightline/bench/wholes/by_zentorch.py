"""zentorch, AMD's plug-in for PyTorch."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from sightline.bench.peers.zentorch import ZenTorch
from sightline.bench.wholes.by_torch import ByTorch
from sightline.bench.wholes.case import Whole, WholeCase


class ByZenTorch(ByTorch):
    """``torch.compile`` of the module with its backend."""

    title = ZenTorch.title
    packages = ZenTorch.packages
    own_process = True

    def missing(self) -> str:
        return ZenTorch().missing()

    def why_not(self, case: WholeCase) -> str:
        return "it infers, and does not train" if case.direction != "forward" else ""

    def turned(self, whole: Whole) -> nn.Module:
        importlib.import_module("zentorch")
        compiled: Any = torch.compile(whole.module, backend="zentorch", dynamic=False)
        module: nn.Module = compiled
        return module

    def forget(self) -> None:
        torch._dynamo.reset()

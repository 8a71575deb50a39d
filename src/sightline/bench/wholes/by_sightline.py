"""Sightline: the fastest way, one way that is asked for, or its attention alone."""

from __future__ import annotations

from torch import nn

from sightline._version import __version__
from sightline.bench.case import DTYPES
from sightline.bench.peers.peer import PreparedCase
from sightline.bench.wholes.by_torch import ByTorch
from sightline.bench.wholes.case import Whole, WholeCase
from sightline.products import keep_freed_memory, product
from sightline.products.ways import WAYS


class BySightline(ByTorch):
    """What the builder calls ours: Sightline's layer, or ``sightline.accelerate`` of the model."""

    title = "Sightline"

    def version(self) -> str:
        return __version__

    def turned(self, whole: Whole) -> nn.Module:
        return whole.ours(whole.module)


class MemoryKept(BySightline):
    """In a process of its own, which keeps the memory that tensors free."""

    title = "Sightline, memory kept"
    own_process = True

    def prepare(self, case: WholeCase, whole: Whole, threads: int) -> PreparedCase:
        keep_freed_memory()
        return super().prepare(case, whole, threads)


class AttentionAlone(BySightline):
    """The model with ``attn_implementation="sightline"``, its linear layers as they were."""

    title = "Sightline's attention alone"

    def turned(self, whole: Whole) -> nn.Module:
        assert whole.attention is not None
        return whole.attention(whole.module)


class ByWay(BySightline):
    """Sightline with one way to multiply, forced."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.title = f"product({way!r})"  # type: ignore[misc]

    def why_not(self, case: WholeCase) -> str:
        return WAYS[self.way].why_not(DTYPES[case.dtype]) or ""

    def prepare(self, case: WholeCase, whole: Whole, threads: int) -> PreparedCase:
        run = super().prepare(case, whole, threads)

        def call() -> object:
            with product(self.way):
                return run.call()

        return PreparedCase(call, run.outputs)

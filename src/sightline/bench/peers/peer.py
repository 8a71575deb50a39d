"""What a peer is: a library's attention, what it can do, and how to call it at its best."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from sightline.bench.case import Case, Inputs, inputs
from sightline.bench.judge import rows_of


class PreparedCase(NamedTuple):
    """A case, ready to be called.

    Attributes:
        call: what is timed.
        outputs: turns its result into [context], or [dquery, dkey, dvalue] (and dbias): all [B,H,.,.].
    """

    call: Callable[[], Any]
    outputs: Callable[[Any], Sequence[Tensor]]


class Contender(ABC):
    """Somebody who computes what a case asks for.

    Attributes:
        title: its name in the tables.
        packages: what must be installed.
        own_process: whether it runs apart, because it has a thread pool of its own beside PyTorch's.
    """

    title: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    own_process: ClassVar[bool] = False

    def missing(self) -> str:
        """ "" if the library is installed, otherwise what to install."""
        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        return f"not installed: pip install {' '.join(absent)}" if absent else ""

    def version(self) -> str:
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in self.packages)

    def environment(self, threads: int) -> dict[str, str]:
        """Environment variables that limit its own process to ``threads`` threads."""
        return {}

    def why_not(self, case: Any) -> str:
        """Why it is left out of a case; "" if it can compute it. Equal reasons have equal words."""
        return ""

    @abstractmethod
    def load(self, case: Any, threads: int) -> tuple[list[PreparedCase], list[Tensor]]:
        """A case ready to be called, whose runs take turns, and what is compared of one, as float32."""

    def forget(self) -> None:  # noqa: B027  (most have nothing to forget)
        """Drops what was cached for a case."""


class Peer(Contender):
    """One library's attention.

    Inputs are brought into the layout that the library documents before anything is timed.
    """

    @abstractmethod
    def prepare(self, case: Case, given: Inputs, threads: int) -> PreparedCase:
        """The case, ready to be called repeatedly."""

    def load(self, case: Case, threads: int) -> tuple[list[PreparedCase], list[Tensor]]:
        runs = [self.prepare(case, inputs(case, copy), threads) for copy in range(case.copies)]
        outputs = [tensor.detach().float() for tensor in runs[0].outputs(runs[0].call())]
        for run in runs[1:]:
            run.call()  # some libraries bring inputs into their own memory at first
        if case.direction == "forward":
            outputs = [outputs[0][:, :, rows_of(case)].clone()]
        return runs, outputs

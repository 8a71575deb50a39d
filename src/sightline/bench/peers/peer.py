"""What a peer is: a library's attention, with what it can do and how it is called at its best."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from sightline.bench.case import Case, Inputs


class Run(NamedTuple):
    """A prepared case."""

    call: Callable[[], Any]
    """What is timed."""
    outputs: Callable[[Any], Sequence[Tensor]]
    """Makes of its result [context], or [dquery, dkey, dvalue] (and dbias): all [B,H,.,.]."""


class Peer(ABC):
    """One library's attention.

    Inputs are brought into the layout that the library documents before anything is timed.
    """

    title: ClassVar[str]
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    own_process: ClassVar[bool] = False
    """Libraries with thread pools of their own run apart, so that they do not meet PyTorch's."""

    def missing(self) -> str:
        """ "" if the library is installed, otherwise what to install."""
        absent = [name for name in self.packages if importlib.util.find_spec(name) is None]
        return f"not installed: pip install {' '.join(absent)}" if absent else ""

    def version(self) -> str:
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in self.packages)

    def environment(self, threads: int) -> dict[str, str]:
        """Environment variables that hold it to so many threads, for its own process."""
        return {}

    def why_not(self, case: Case) -> str:
        """Why it is left out of a case, or "" if it can do it. The same words for the same reason."""
        return ""

    @abstractmethod
    def prepare(self, case: Case, given: Inputs, threads: int) -> Run:
        """The case, ready to be called again and again."""

    def forget(self) -> None:  # noqa: B027  (most have nothing to forget)
        """Lets go of what was cached for a case."""

"""Ctrl-C during training: the current step is finished first, so that the run can be resumed exactly."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Abandoned(KeyboardInterrupt):
    """The second Ctrl-C: stop at once and leave the checkpoint as it was."""


class Interrupts:
    """Defers SIGINT and SIGTERM; a second one stops at once.

    An exception in the middle of an optimiser's step would leave some weights stepped and some not, and in
    the middle of validation the averaged weights in place of the model's own.

    Args:
        quiet: leave the message to another process.

    Attributes:
        asked: whether a signal has come.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.asked, self._quiet = False, quiet
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only the main thread may set handlers
            self._before = {each: signal.signal(each, self._ask) for each in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise Abandoned
        self.asked = True
        if not self._quiet:
            print("sightline: stopping after this step; once more stops at once", file=sys.stderr)

"""The signal that stops a computation, or pauses it while quicker ones pass."""

from __future__ import annotations

from threading import Event

#: Seconds that one step of a slow computation waits for quick ones at most: it is delayed, never starved.
PATIENCE = 1.0


class StoppedError(Exception):
    """The computation is no longer wanted."""


class Cancel(Event):
    """Set when nobody waits for a computation any more; checked between its steps.

    Args:
        calm: set while no quick computation is at work or waiting; ``None`` for a quick one itself.
    """

    def __init__(self, calm: Event | None = None) -> None:
        super().__init__()
        self._calm = calm

    def check(self) -> None:
        """Lets quick computations pass.

        Raises:
            StoppedError: if it is set.
        """
        if self._calm is not None:
            self._calm.wait(PATIENCE)
        if self.is_set():
            raise StoppedError

"""How a computation is told to stop, and to let quicker ones pass."""

from __future__ import annotations

from threading import Event

#: Seconds that one step of a slow computation waits for quick ones at most: it is delayed, never starved.
PATIENCE = 1.0


class StoppedError(Exception):
    """The computation was not wanted any more."""


class Cancel(Event):
    """Set when nobody waits for a computation any more; looked at between two steps of it.

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

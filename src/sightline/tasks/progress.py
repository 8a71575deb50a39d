"""How a run goes on, for a person at a terminal; a line for each epoch in a pipe."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self


class Shown:
    """A progress bar with the loss, and a line after each epoch."""

    def __init__(self, epochs: int, metric: str, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.metric, self.epochs = metric, epochs
        self.console = Console(stderr=True)
        self.bar: Any = None
        if self.console.is_terminal and not quiet:
            columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
            self.bar = Progress(*columns, console=self.console)
            self.line = self.bar.add_task("starting", total=1)

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()

    def notice(self, text: str) -> None:
        """Says it."""
        self._print(f"sightline: {text}")

    def step(self, epoch: int, done: int, of: int, loss: float) -> None:
        """Moves the bar."""
        if self.bar is not None:
            text = f"epoch {epoch + 1} of {self.epochs} · loss {loss:.3f}"
            self.bar.update(self.line, description=text, completed=done, total=of)

    def epoch(self, epoch: int, figures: dict[str, float], better: bool) -> None:
        """Says what validation gave."""
        told = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self._print(f"epoch {epoch + 1}: {told}{' (best)' if better else ''}")

    def _print(self, line: str) -> None:
        if self.bar is not None:
            self.bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

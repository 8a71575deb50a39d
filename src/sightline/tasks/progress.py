"""The progress of a run: a bar at a terminal, a line for each epoch in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class ProgressDisplay:
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
        """Prints it."""
        self._print(f"sightline: {text}")

    def step(self, epoch: int, done: int, of: int, loss: float) -> None:
        """Moves the bar."""
        if self.bar is not None:
            text = f"epoch {epoch + 1} of {self.epochs} · loss {loss:.3f}"
            self.bar.update(self.line, description=text, completed=done, total=of)

    def epoch(self, epoch: int, figures: dict[str, float], better: bool) -> None:
        """Prints the validation figures."""
        listed = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
        self._print(f"epoch {epoch + 1}: {listed}{' (best)' if better else ''}")

    def measuring(self, part: str, count: int) -> None:
        """Prints what the finished model is measured on."""
        text = f"measuring the {part} part: {count:,} examples"
        if self.bar is not None:
            self.bar.remove_task(self.line)
            self.line = self.bar.add_task(text, total=None)
        else:
            self._print(text)

    def _print(self, line: str) -> None:
        if self.bar is not None:
            self.bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


def passing(items: Iterator[T], count: int) -> Iterator[T]:
    """The items as they come, with a bar at a terminal if their output goes elsewhere."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    needless = sys.stdout.isatty() or not console.is_terminal or count < 2
    # Rich would redirect what is printed meanwhile to its own console, away from the intended file.
    bar = Progress(console=console, transient=True, redirect_stdout=False, disable=needless)
    with bar:
        yield from bar.track(items, count, description="answering")

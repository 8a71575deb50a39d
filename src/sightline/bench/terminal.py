"""Tables and the progress line, on a screen and, readably, in a pipe."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from sightline.bench.text_table import TextTable

# In a pipe a table must not be squeezed to 80 columns.
_PIPE_WIDTH = 220


class Terminal:
    """Tables on stdout; on stderr one progress line, or in a pipe a line per finished row."""

    def __init__(self) -> None:
        self._console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)
        self._moving = sys.stderr.isatty()
        self._section = ""

    def begin(self, section: str) -> None:
        """Names the section that the next lines are about."""
        self._section = section

    def progress(self, line: str) -> None:
        """Shows what is being done; without a thread of its own, which would be measured as well."""
        if self._moving:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\033[2K{f'{self._section}: {line}'[:width]}", end="", file=sys.stderr, flush=True)

    def done(self, line: str) -> None:
        """A row is finished."""
        if not self._moving:
            print(f"{self._section}: {line}", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Removes the progress line."""
        if self._moving:
            print("\r\033[2K", end="", file=sys.stderr, flush=True)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Names and values, aligned."""
        width = max(map(len, facts), default=0)
        for name, fact in facts.items():
            self._console.print(f"{name:<{width}}  {fact}", markup=False)

    def table(self, table: TextTable) -> None:
        """A section's table, with its note under it."""
        self.clear()
        drawn = Table(title=table.title, title_justify="left", title_style="bold")
        for heading, numeric in zip(table.headings, table.numeric, strict=True):
            drawn.add_column(heading, justify="right" if numeric else "left")
        for row in table.rows:
            drawn.add_row(*row)
        self._console.print()
        self._console.print(drawn, markup=False)
        self._console.print(table.note, markup=False, style="dim")

    def line(self, text: str = "") -> None:
        """A line on stdout."""
        self._console.print(text, markup=False)

    def say(self, text: str) -> None:
        """A line on stderr, for the person who is waiting."""
        self.clear()
        print(text, file=sys.stderr, flush=True)

"""The check of a build on every processor that can be had for it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from platforms.target import Run, Target

_MINUTES = 20


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        run: of which.
        lacking: why it was not run, where it was not.
        code: the check's exit code.
        lines: all that it printed.
    """

    run: Run
    lacking: str | None = None
    code: int | None = None
    lines: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        """Whether it ran, and everything was right."""
        return self.code == 0 and bool(self.lines) and self.lines[-1] == "all is well"


def check(target: Target, library: Path, program: Path) -> Iterator[Outcome]:
    """Runs the check everywhere that it can be."""
    for run in target.runs:
        lacking = run.lacking()
        if lacking is not None:
            yield Outcome(run, lacking)
            continue
        done = subprocess.run(
            [*run.program, program, *run.options, library, *run.levels],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60 * _MINUTES,
        )
        yield Outcome(run, None, done.returncode, tuple(done.stdout.splitlines()))

"""One source after another: what was met, what not, and what could not be run."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from published.line import Line, NotRunError
from published.source import Source


@dataclass
class Outcome:
    """What came of one source.

    Attributes:
        source: whose results.
        lines: each of them beside ours.
        lacking: what it could not be run without.
        error: what went wrong, as Python tells it.
    """

    source: Source
    lines: list[Line] = field(default_factory=list)
    lacking: str | None = None
    error: str | None = None

    @property
    def met(self) -> bool:
        """Whether all of it was run, and met."""
        return not self.lacking and not self.error and bool(self.lines) and all(one.met for one in self.lines)


def check(source: Source, speech: Path | None, progress: Callable[[Line], object]) -> Outcome:
    """Everything that a source published, a line at a time; ``progress`` hears of each."""
    outcome = Outcome(source)
    try:
        module = importlib.import_module(f"published.{source.module}")
        for line in module.lines(speech):
            outcome.lines.append(line)
            progress(line)
    except NotRunError as lacking:
        outcome.lacking = str(lacking)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] in ("published", "sightline"):
            raise
        outcome.lacking = (
            f"no module {missing.name}. make published installs what published/requirements.txt and "
            "published/alone.txt name, where the package registry can be reached"
        )
    except Exception:
        outcome.error = traceback.format_exc()
    return outcome


def exit_code(outcomes: list[Outcome]) -> int:
    """0 where all was met, 1 where something was not, 2 where something could not be run."""
    if any(one.error or any(not line.met for line in one.lines) for one in outcomes):
        return 1
    return 0 if all(one.met for one in outcomes) else 2

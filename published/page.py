"""The page of docs/: published beside ours."""

from __future__ import annotations

import textwrap

from published.line import Line
from published.run import Outcome

HEAD = """\
# Checked against others

What other people published, met through Sightline: their weights, their numbers, their code where it runs.
One command does it all and writes this page:

```sh
make published SPEECH=jfk.flac
```

It installs the packages named below into an environment of their own, `.venv/published`; with them there it
needs no network. It ends with 1 where a number lies farther away than its tolerance, and with 2 where
something could not be run; this page is only written where everything was run and met. Nothing of the
packages comes with Sightline: weights and examples are read where they are installed.
"""


def page(outcomes: list[Outcome], facts: dict[str, str]) -> str:
    """The page as Markdown; ``facts`` say what it was run with."""
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    return "\n".join([HEAD, f"Last run with {told}.", *map(_section, outcomes)])


def _section(outcome: Outcome) -> str:
    source = outcome.source
    package = f"[{source.package}](https://pypi.org/project/{source.package}/)"
    rows = ["| what | published | ours | difference |", "|---|---|---|---|", *map(_row, outcome.lines)]
    return "\n".join(
        [
            f"\n## {source.title}",
            _filled(source.about),
            _filled(f"Package: {package} {source.version()}. Terms: {source.terms}."),
            *rows,
        ]
    )


def _row(line: Line) -> str:
    cells = (line.what, line.published, line.ours, line.difference)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _filled(text: str) -> str:
    return textwrap.fill(text, 110, break_long_words=False, break_on_hyphens=False) + "\n"

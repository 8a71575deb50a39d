"""`python -m published`: check everything, show it, write the page."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Before Transformers is imported: what is checked lies in packages, and nothing is fetched.
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "JAX_PLATFORMS": "cpu"}

import transformers
from rich.console import Console
from rich.table import Table

import sightline
from published.page import page
from published.run import Outcome, check, exit_code
from published.source import SOURCES
from sightline.common.pretrained import quiet


def main(arguments: list[str] | None = None) -> int:
    """Run the checks; the exit code is that of :func:`exit_code`."""
    parser = argparse.ArgumentParser(prog="python -m published", description=__doc__)
    parser.add_argument("--speech", type=Path, help="jfk.flac, which OpenAI tests Whisper with")
    parser.add_argument("--page", type=Path, help="where to write the page, once everything is met")
    given = parser.parse_args(arguments)
    console = Console()
    outcomes = []
    for source in SOURCES:
        with quiet(), console.status(f"{source.title} …") as status:
            outcomes.append(
                check(source, given.speech, lambda line: status.update(f"{line.what}: {line.difference}"))
            )
        _show(console, outcomes[-1])
    code = exit_code(outcomes)
    if given.page and code == 0:
        given.page.write_text(page(outcomes, _facts()), encoding="utf-8")
        console.print(f"[bold]All met.[/bold] {given.page} is written.")
    elif given.page:
        why = "Not all is met." if code == 1 else "Not all could be run."
        console.print(f"[bold red]{why}[/bold red] {given.page} stays as it was.")
    return code


def _show(console: Console, outcome: Outcome) -> None:
    source = outcome.source
    table = Table("what", "published", "ours", "difference", title=f"{source.title} ({source.package})")
    for line in outcome.lines:
        table.add_row(
            line.what, line.published, line.ours, line.difference, style="" if line.met else "bold red"
        )
    if outcome.lines:
        console.print(table)
    if outcome.lacking:
        console.print(f"[yellow]{source.title}: not run:[/yellow] {outcome.lacking}", highlight=False)
    if outcome.error:
        console.print(
            f"[red]{source.title}: went wrong[/red]\n{outcome.error}", highlight=False, markup=False
        )


def _facts() -> dict[str, str]:
    ours = sightline.info()
    return {
        "Sightline": ours["sightline"],
        "PyTorch": ours["torch"],
        "Transformers": transformers.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())

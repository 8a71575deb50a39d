"""The page of the commands: what `--help` says of each."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from typer.testing import CliRunner

from sightline.cli import COMMANDS, create_app


def sentences() -> list[tuple[str, str]]:
    """The commands, and what each does in a sentence."""
    described = []
    for name, place in COMMANDS.items():
        module, function = place.split(":")
        said = getattr(import_module(module), function).__doc__ or ""
        described.append((name, " ".join(said.split("\n\n")[0].split())))
    return described


def write(path: Path) -> None:
    """Writes the page."""
    app, runner = create_app(), CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"})
    lines = ["Command line", "============", "", "What ``sightline COMMAND --help`` says.", ""]
    for name in COMMANDS:
        title = f"sightline {name}"
        shown = runner.invoke(app, [name, "--help"], prog_name="sightline").output
        lines += [title, "-" * len(title), "", ".. code-block:: text", ""]
        lines += [f"   {line}".rstrip() for line in shown.splitlines()] + [""]
    path.write_text("\n".join(lines), encoding="utf-8")

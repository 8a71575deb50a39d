"""The page of the commands: what `--help` says of each."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from sightline.cli import COMMANDS, create_app


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

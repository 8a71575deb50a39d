"""The command line itself: help, wrong usage, missing extras, exit codes."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("typer", reason="the command line needs the [app] extra")
pytest.importorskip("rich", reason="the command line needs the [app] extra")

import sightline
from sightline import cli
from sightline.common.errors import CommandError


def test_help_names_every_command(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert name in out


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sightline {sightline.__version__}\n"


def test_look_help(capsys):
    assert cli.main(["look", "--help"]) == 0
    out = capsys.readouterr().out
    for option in (
        "--model",
        "--layer",
        "--head",
        "--query",
        "--top",
        "--words",
        "--html",
        "--json",
        "--max-tokens",
    ):
        assert option in out


@pytest.mark.parametrize(
    "arguments", [["look"], ["look", "x", "--layer", "one"], ["nothing"], ["look", "x", "--no"]]
)
def test_wrong_usage_is_2(capsys, arguments):
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert "Usage:" in err and "Traceback" not in err


def test_info(capsys):
    import torch

    import sightline

    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert sightline.__version__ in out and torch.__version__ in out and "threads" in out


def run_command(monkeypatch, command):
    module = sys.modules[__name__]
    monkeypatch.setattr(module, "command", command, raising=False)
    monkeypatch.setitem(cli.COMMANDS, "test", f"{__name__}:command")
    monkeypatch.setitem(sys.modules, __name__, module)
    return cli.main(["test"])


def test_errors_are_one_line(capsys, monkeypatch):
    def command() -> None:
        raise CommandError("no such thing; try another")

    assert run_command(monkeypatch, command) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "sightline: no such thing; try another\n"


def test_control_c_is_quiet(capsys, monkeypatch):
    def command() -> None:
        raise KeyboardInterrupt

    assert run_command(monkeypatch, command) == 130
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_missing_module_of_a_command(capsys, monkeypatch):
    def command() -> None:
        raise ModuleNotFoundError("No module named 'transformers'", name="transformers")

    assert run_command(monkeypatch, command) == 1
    assert (
        capsys.readouterr().err
        == 'sightline: this command needs transformers: pip install "sightline[app]"\n'
    )


def test_without_the_app_extra():
    """In a process in which neither has been imported; each is missing in turn."""
    program = """if True:
        import sys
        from sightline.cli import main
        for missing in ("typer", "rich"):
            sys.modules[missing] = None
            print(main(["info"]))
            del sys.modules[missing]
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.split() == ["1", "1"]
    needs = 'sightline: the command line needs {}: pip install "sightline[app]"\n'
    assert done.stderr == needs.format("typer") + needs.format("rich")


def test_python_dash_m_needs_no_transformers_to_help():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "sightline", "look", "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0 and "--layer" in done.stdout
    modules = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "sightline" in modules and "transformers" not in modules


def test_a_level_that_does_not_exist_is_one_line(monkeypatch, capsys):
    monkeypatch.setenv("SIGHTLINE_ISA", "avx1024")
    assert cli.main(["info"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("sightline: SIGHTLINE_ISA: there is no level 'avx1024' in this build")

"""The command line: ``sightline look``, ``serve``, ``profile`` and whatever else COMMANDS lists.

A command is a plain function with typer annotations. It raises ``InputError`` (or any subclass of
``CommandError``) for what the user can correct; this file turns that into one line and an exit code:
1 for an error, 2 for wrong usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import functools
import importlib
import io
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sightline._version import __version__
from sightline.common.errors import CommandError

if TYPE_CHECKING:
    import typer

COMMANDS: dict[str, str] = {
    "look": "sightline.commands.look:look",
    "page": "sightline.commands.page:page",
    "profile": "sightline.commands.profile:profile",
    "lens": "sightline.commands.lens:lens",
    "effects": "sightline.commands.effects:effects",
    "serve": "sightline.commands.serve:serve",
    "train": "sightline.commands.tasks:train",
    "run": "sightline.commands.tasks:run",
    "bench": "sightline.commands.bench:bench",
    "beside": "sightline.commands.beside:beside",
    "info": "sightline.commands.info:info",
}
"""Name of a command to where its function is: ``module:function``. A new command is a new line here."""

INSTALL = 'pip install "sightline[app]"'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; ``arguments`` defaults to ``sys.argv[1:]``."""
    _print_anything()
    try:
        create_app()(args=None if arguments is None else list(arguments), prog_name="sightline")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as missing:
        print(f"sightline: the command line needs {missing.name}: {INSTALL}", file=sys.stderr)
        return 1
    return 0


def _print_anything() -> None:
    """What the terminal or pipe has no letter for becomes a "?", not an error: Windows' pipes have few."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def create_app() -> typer.Typer:
    """The typer application with every command of ``COMMANDS``.

    Raises:
        ModuleNotFoundError: typer or rich is not installed.
    """
    import rich  # noqa: F401  (so that a missing one is reported before a command has begun)
    import typer

    app = typer.Typer(
        name="sightline",
        help="Exact attention that can be looked into at any length.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root_command())
    for name, place in COMMANDS.items():
        module, function = place.split(":")
        app.command(name)(_reported(getattr(importlib.import_module(module), function)))
    return app


def _setting_error() -> type[Exception]:
    """The engine's error for SIGHTLINE_ISA and the like; imported late, since it takes PyTorch."""
    from sightline.common.check import SettingError

    return SettingError


def _root_command() -> Callable[..., None]:
    """What ``sightline`` takes before the name of a command."""
    import typer

    def show(wanted: bool) -> None:
        if wanted:
            print(f"sightline {__version__}")
            raise typer.Exit

    def root(
        version: bool = typer.Option(
            False, "--version", callback=show, is_eager=True, help="Show the version."
        ),
    ) -> None:
        """Exact attention that can be looked into at any length."""

    return root


def _reported(command: Callable[..., Any]) -> Callable[..., Any]:
    """``command``, with its errors reported in one line instead of a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (CommandError, _setting_error()) as error:
            print(f"sightline: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        except RuntimeError as error:
            from sightline.common.devices import out_of_memory

            told = out_of_memory(error)
            if told is None:
                raise
            print(f"sightline: {told}", file=sys.stderr)
            raise SystemExit(1) from None
        except ModuleNotFoundError as missing:
            if missing.name is None or missing.name.split(".")[0] == "sightline":
                raise
            print(f"sightline: this command needs {missing.name}: {INSTALL}", file=sys.stderr)
            raise SystemExit(1) from None
        except BrokenPipeError:
            # The reader of our output went away, as `| head` does: nothing is wrong.
            sys.stderr.close()
            raise SystemExit(0) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    return run

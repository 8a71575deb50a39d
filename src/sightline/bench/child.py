"""Calling one of this package's functions in a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

_PROGRAM = "from sightline.bench.child import answer; answer()"


def in_child(function: Callable[..., Any], environment: Mapping[str, str] | None = None, **given: Any) -> Any:
    """What a function returns, called in a fresh process; arguments and result travel as JSON.

    Args:
        function: a function of a module of this package.
        environment: changes to the environment variables of the process.
        given: its arguments.

    Raises:
        RuntimeError: with the last line of its error; KeyboardInterrupt: if it was interrupted.
    """
    name = f"{function.__module__}:{function.__name__}"
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, name, json.dumps(given)],
        capture_output=True, text=True, check=False, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    if run.returncode < 0 or run.returncode == 130:
        raise KeyboardInterrupt
    if run.returncode:
        raise RuntimeError(f"{name}: {(run.stderr.strip() or 'no message').splitlines()[-1]}")
    return json.loads(run.stdout)


def answer() -> None:
    """In the other process: calls the function that ``sys.argv`` names, and prints what it returns."""
    module, name = sys.argv[1].split(":")
    with contextlib.redirect_stdout(sys.stderr):
        result = getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
    print(json.dumps(result))

"""Executes a notebook cell by cell, as a kernel does, in this process."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


def run(path: Path) -> tuple[str | None, str]:
    """What failed, if anything, and the notebook as text with what its cells showed up to there."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    shell, failed = _Shell(), None
    for at, cell in enumerate(code, 1):
        cell["execution_count"], cell["outputs"] = at, []
        failed = shell.run("".join(cell["source"]), at, cell["outputs"])
        if failed is not None:
            break
    return failed, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


class _Shell:
    """IPython without a terminal, which keeps what would be shown."""

    def __init__(self) -> None:
        from IPython.core.interactiveshell import InteractiveShell

        self._shell = InteractiveShell.instance()
        self._shell.reset(new_session=True)

    def run(self, source: str, number: int, outputs: list[dict[str, Any]]) -> str | None:
        """Runs a cell; ``outputs`` gets what it shows. What failed, if anything."""
        from IPython.core.displayhook import CapturingDisplayHook
        from IPython.core.displaypub import CapturingDisplayPublisher
        from IPython.utils.capture import capture_output

        shown: list[dict[str, Any]] = []
        publisher = CapturingDisplayPublisher()
        self._shell.display_pub = publisher
        self._shell.display_trap.hook = CapturingDisplayHook(shell=self._shell, outputs=shown)  # nosec B604
        with capture_output(display=False) as printed:
            done = self._shell.run_cell(source, store_history=True)
        for name, text in (("stdout", printed.stdout), ("stderr", printed.stderr)):
            if text:
                outputs.append({"name": name, "output_type": "stream", "text": text.splitlines(True)})
        outputs += [_output(each["data"], None) for each in publisher.outputs]
        outputs += [_output(each["data"], number) for each in shown]
        error = done.error_in_exec or done.error_before_exec
        return None if error is None else "".join(traceback.format_exception_only(error)).strip()


def _output(data: dict[str, Any], number: int | None) -> dict[str, Any]:
    kept = {kind: _lines(value) for kind, value in sorted(_kept(data))}
    shown = {"data": kept, "metadata": {}}
    if number is None:
        return {**shown, "output_type": "display_data"}
    return {**shown, "execution_count": number, "output_type": "execute_result"}


def _kept(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """A live view shows nothing without its kernel: of it the words alone."""
    live = data.get("text/plain", "").startswith("LiveView(")
    return ((kind, value) for kind, value in data.items() if not live or kind == "text/plain")


def _lines(value: Any) -> Any:
    return value.splitlines(True) if isinstance(value, str) else value

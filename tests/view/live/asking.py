"""Asks the page's runtime, in node, what it makes of a model."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sightline.view.live import check_supported, packed

NODE = Path(__file__).parent / "node.mjs"


def question(model: Any, *asked: dict[str, Any]) -> dict[str, Any]:
    """A model with what is asked of it: {"source", "target"} ids to look at, with "options" to write from."""
    check_supported(model)
    described = {"model": type(model).__name__, "config": model.config.to_dict()}
    return {"described": described, "weights": packed(model)._asdict(), "asked": asked}


def answers(folder: Path, questions: list[dict[str, Any]], timeout: float = 100) -> list[list[Any]]:
    """The runtime's answers, for each question a list."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    given, got = folder / "given.json", folder / "got.json"
    given.write_text(json.dumps(questions), encoding="utf-8")
    ran = subprocess.run(
        ["node", str(NODE), str(given), str(got)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert ran.returncode == 0, ran.stderr
    read: list[list[Any]] = json.loads(got.read_text(encoding="utf-8"))
    return read

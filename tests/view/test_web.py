"""The pure parts of the page, by node's own test runner."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "web"


def test_pure_parts():
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    files = sorted(str(path) for path in FOLDER.glob("*.test.js"))
    ran = subprocess.run(["node", "--test", *files], capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout

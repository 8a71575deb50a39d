"""Wheels for any system, built here: one for every Python, as the core speaks C."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from platforms import zig
from platforms.target import Target

#: PyPI takes 100 MB; whoever installs waits for each of them.
LARGEST = 75e6


def build_wheel(target: Target, out: Path) -> Path:
    """``py3-none-TAG``, with the models, looked through by :func:`check_wheel`.

    Raises:
        subprocess.CalledProcessError: it does not build.
        ValueError: it is not what it should be.
    """
    with tempfile.TemporaryDirectory() as made:
        settings = {f"cmake.define.{name}": value for name, value in zig.definitions(target).items()}
        # This machine's strip knows its own files alone; of others' cmake/zig.cmake has the linker do it.
        settings |= {
            "build-dir": str(zig.folder(target)),
            "install.strip": str(zig.is_like_here(target)).lower(),
        }
        given = [f"--config-settings={name}={value}" for name, value in settings.items()]
        _python("pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", made, *given, str(zig.ROOT))
        (built,) = Path(made).glob("*.whl")
        _python("wheel", "tags", "--remove", "--platform-tag", target.tag, str(built))
        (tagged,) = Path(made).glob("*.whl")
        check_wheel(tagged, target)
        out.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(tagged, out / tagged.name))


def _python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def try_wheel(wheel: Path) -> int:
    """Runs ``native/check`` on its core, on this machine; the check's exit code.

    Needs a C compiler, and neither Zig nor PyTorch.

    Raises:
        ValueError: no core is in it.
    """
    with tempfile.TemporaryDirectory() as made, zipfile.ZipFile(wheel) as files:
        libraries = [name for name in files.namelist() if re.fullmatch(r"sightline/_native\.\w+", name)]
        if len(libraries) != 1:
            raise ValueError(f"{wheel.name}: libraries {libraries}, expected one in sightline/")
        program = Path(made) / "check"
        compiler = os.environ.get("CC", "cc").split()
        subprocess.run([*compiler, *zig.CHECK, "-o", program, "-lm", "-ldl"], check=True)
        return subprocess.run([program, files.extract(libraries[0], made)]).returncode


def check_wheel(wheel: Path, target: Target) -> None:
    """Name, models, size, and on Linux that it needs no more than its name says.

    Raises:
        ValueError: with what is wrong.
    """
    if not wheel.name.endswith(f"-py3-none-{target.tag}.whl"):
        raise ValueError(f"{wheel.name}: its name ends otherwise than py3-none-{target.tag}.whl")
    names = zipfile.ZipFile(wheel).namelist()
    models = [name for name in names if re.fullmatch(r"sightline/box/[\w-]+/model\.safetensors", name)]
    here = [path.parent.name for path in (zig.ROOT / "src" / "sightline" / "box").glob("*/model.safetensors")]
    if len(models) != len(here):
        raise ValueError(f"{wheel.name}: it holds {len(models)} models, and {len(here)} are here")
    libraries = [name for name in names if name.endswith((".so", ".dll", ".dylib"))]
    if libraries != [f"sightline/{target.library}"]:
        raise ValueError(f"{wheel.name}: libraries {libraries}, expected sightline/{target.library}")
    if wheel.stat().st_size > LARGEST:
        raise ValueError(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, at most {LARGEST / 1e6:.0f}")
    if "linux_" in target.tag:
        said = " ".join(_python("auditwheel", "show", str(wheel)).split())
        found = re.search(r'platform tag: "(\w+)"', said)
        if found is None or not _serves(found[1], target.tag):
            raise ValueError(f"{wheel.name}: auditwheel says: {said}")


_LINUX = re.compile(r"(many|musl)linux_(\d+)_(\d+)_(\w+)")


def _serves(found: str, tag: str) -> bool:
    """Whether what needs the one platform runs on the other: the same C library, as old or older."""
    needed, there = _LINUX.fullmatch(found), _LINUX.fullmatch(tag)
    if needed is None or there is None or needed.group(1, 4) != there.group(1, 4):
        return False
    return (int(needed[2]), int(needed[3])) <= (int(there[2]), int(there[3]))

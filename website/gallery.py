"""The pages of the gallery, made by the very commands that docs/gallery.md shows."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from website.contents import DOCS, ROOT

_COMMAND = re.compile(r"^```sh\n(.+?)\n```$", re.MULTILINE)
_PAGE = re.compile(r"[\w-]+\.html")
_PROGRAMS = {"sightline": [sys.executable, "-m", "sightline"], "python": [sys.executable]}


def commands(text: str | None = None) -> list[tuple[str, str]]:
    """The commands of docs/gallery.md, each with the name of the page that it makes.

    Raises:
        ValueError: a command is none of ours, or does not name one page.
    """
    found = []
    for line in _COMMAND.findall((DOCS / "gallery.md").read_text(encoding="utf-8") if text is None else text):
        pages = _PAGE.findall(line)
        if shlex.split(line)[0] not in _PROGRAMS or len(pages) != 1:
            raise ValueError(f"docs/gallery.md: a block is one command that makes one page, got {line!r}")
        found.append((line, pages[0]))
    return found


def write(folder: Path, *, keep: bool = False) -> None:
    """Makes the pages in ``folder``; with ``keep`` only those that are not there.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for line, page in commands():
        if not (keep and (folder / page).exists()):
            program, *arguments = shlex.split(line)
            told = [str(folder.resolve() / page) if word == page else word for word in arguments]
            print(f"gallery: {line}", flush=True)
            subprocess.run([*_PROGRAMS[program], *told], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def with_links(text: str, folder: Path) -> str:
    """The text of docs/gallery.md with a link behind each command to the page that it made."""
    return _COMMAND.sub(lambda block: f"{block[0]}\n\n{_link(block[1], folder)}", text)


def _link(line: str, folder: Path) -> str:
    [page] = _PAGE.findall(line)
    size = (folder / page).stat().st_size / 1e6
    return f'<p><a class="open" href="gallery/{page}">Open the page</a> ({size:.1f} MB)</p>'

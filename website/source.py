"""The folder that Sphinx reads: the pages of docs/ in their order, with what is made for the site alone."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from website import command_line, reference
from website.contents import DOCS, ROOT, Page, Section, sections

# Pages outside docs/ that the site has, too.
BESIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
END_OF_FIRST_PAGE = "<!-- The site's first page ends here. -->"

TOCTREE = re.compile(r"\n```\{toctree\}\n.*?\n```\n", re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def write(folder: Path) -> None:
    """Makes ``folder``, which is not there yet."""
    folder.mkdir(parents=True)
    shutil.copytree(DOCS / "images", folder / "images")
    parts = sections()
    for section in parts:
        for page in section.pages:
            _copy(page, folder)
    rooms = reference.write(folder / "reference")
    command_line.write(folder / "command-line.rst")
    made = {"Reference": ["command-line", *(f"reference/{room}" for room in rooms)]}
    for section in parts:
        _write_section(section, made.get(section.title, []), folder)
    _write_first_page(parts, folder)


def _copy(page: Page, folder: Path) -> None:
    origin = (DOCS / page.path).resolve()
    text = rewritten(origin, folder)
    if page.children:
        text += _toctree(child.path for child in page.children)
    (folder / site_name(origin)).write_text(text, encoding="utf-8")
    for child in page.children:
        _copy(child, folder)


def _write_section(section: Section, made: list[str], folder: Path) -> None:
    listed = [_entry(page, folder) for page in section.pages]
    if made:
        listed += [f"- {{doc}}`{name}`" for name in made]
    paths = [page_name(page) for page in section.pages] + made
    text = f"# {section.title}\n\n{section.text}\n\n" + "\n".join(listed) + "\n" + _toctree(paths)
    (folder / f"{section.name}.md").write_text(text, encoding="utf-8")


def _entry(page: Page, folder: Path) -> str:
    said = _rewrite_links(page.description, DOCS / "README.md", folder)
    return f"- [{page.title}]({page_name(page)})" + (f": {said}" if said else "")


def _write_first_page(parts: list[Section], folder: Path) -> None:
    first = rewritten(ROOT / "README.md", folder).split(END_OF_FIRST_PAGE)[0]
    (folder / "index.md").write_text(first + _toctree(part.name for part in parts), encoding="utf-8")


def _toctree(names: object) -> str:
    lines = "\n".join(name.removesuffix(".md") for name in names)  # type: ignore[attr-defined]
    return f"\n```{{toctree}}\n:hidden:\n\n{lines}\n```\n"


def site_name(path: Path) -> str:
    """The name on the site of a page of the repository."""
    inside = path.relative_to(ROOT).as_posix()
    return BESIDE.get(inside) or ("index.md" if inside == "README.md" else path.name)


def page_name(page: Page) -> str:
    """The name on the site of a page of the contents."""
    return site_name((DOCS / page.path).resolve())


def rewritten(page: Path, folder: Path) -> str:
    """A page's text with its links as they are on the site; code is left alone."""
    parts = _FENCE.split(page.read_text(encoding="utf-8"))
    # The empty line at the end of a Python session ends its last result for doctest; nobody needs to see it.
    return "".join(
        part.replace("\n\n```", "\n```") if part.startswith("```") else _rewrite_links(part, page, folder)
        for part in parts
    )


def _rewrite_links(text: str, page: Path, folder: Path) -> str:
    return _LINK.sub(lambda link: _on_site(link[0], page, folder), text)


def _on_site(link: str, page: Path, folder: Path) -> str:
    target, _, anchor = link.partition("#")
    if ":" in link or not target:
        return link
    path = Path(os.path.normpath(page.parent / target))
    if path == DOCS / "README.md":  # its sections are pages there
        return f"{anchor or sections()[0].name}.md"
    inside = path.relative_to(ROOT)
    if path.suffix == ".md" and (inside.parent.name == "docs" or inside.as_posix() in (*BESIDE, "README.md")):
        return site_name(path) + (f"#{anchor}" if anchor else "")
    if inside.parts[:2] == ("docs", "images"):
        return f"images/{path.name}"
    return _carried(path, inside, folder)


def _carried(path: Path, inside: Path, folder: Path) -> str:
    """Another file of the repository goes with the site; a folder leads to its first page of docs."""
    if path.is_dir():
        return "index.md"
    kept = folder / "files" / inside
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, kept)
    return f"files/{inside.as_posix()}"
